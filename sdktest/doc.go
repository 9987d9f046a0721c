// Package sdktest runs the official SDKs of OpenAI, Anthropic and Google, as
// their makers publish them, against the real platform: clients that nobody here
// wrote, and whose idea of each dialect is the one that counts.
//
// The tests start all that `aione up` runs, with the simulated provider behind
// it, and run each SDK in Node.js (clients/*.mjs). Every case says what the SDK
// made of the answer: types, streams, tools, pictures, and errors as its own
// classes. In the end what the SDKs were told that they used is compared with what
// the platform counted.
//
// The SDKs are pinned by npm/package-lock.json and installed once into the cache
// outside the checkout (see package npm). Without npm or node the tests fail and
// say so: they are never left out.
package sdktest
