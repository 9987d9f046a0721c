// What the clients share: cases that report one line of JSON each, and the usage
// that the SDK was told, which must be what the platform bills.
import assert from 'node:assert/strict';

const given = JSON.parse(process.env.SDKTEST);

export const { url, key, limited, disabled, broke, wrong } = given;

const told = { requests: 0, prompt_tokens: 0, completion_tokens: 0 };

// billed notes what an answer says that it used.
export function billed(prompt, completion) {
  assert.ok(Number.isInteger(prompt) && prompt > 0, `prompt of ${prompt} tokens`);
  assert.ok(Number.isInteger(completion) && completion > 0, `completion of ${completion} tokens`);
  told.requests += 1;
  told.prompt_tokens += prompt;
  told.completion_tokens += completion;
}

// refused asserts that a call throws an error that is.
export async function refused(call, is) {
  let error;
  try {
    await call();
  } catch (e) {
    error = e;
  }
  assert.ok(error, 'the call was not refused');
  is(error);
}

// run runs the cases in order.
export async function run(cases) {
  for (const [name, body] of Object.entries(cases)) {
    let error = null;
    try {
      await body();
    } catch (e) {
      error = String(e?.stack ?? e);
    }
    console.log(JSON.stringify({ case: name, error }));
  }
  console.log(JSON.stringify({ told }));
}

export const weather = {
  name: 'get_weather',
  description: 'The weather in a city.',
  parameters: { type: 'object', properties: { a: { type: 'string' } }, required: ['a'] },
};

export function isPNG(base64) {
  const head = Buffer.from(base64, 'base64').subarray(0, 8).toString('hex');
  assert.equal(head, '89504e470d0a1a0a');
}
