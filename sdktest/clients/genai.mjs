import assert from 'node:assert/strict';
import { ApiError, FunctionCallingConfigMode, GoogleGenAI, Type } from '@google/genai';
import { billed, broke, disabled, isPNG, key, limited, refused, run, url, weather, wrong } from './harness.mjs';

const client = (apiKey) => new GoogleGenAI({ apiKey, httpOptions: { baseUrl: url } });
const google = client(key);
const model = 'gemini-2.5-flash';
const others = ['deepseek-chat', 'claude-haiku-4-5']; // whose providers speak OpenAI's dialect, and Anthropic's
const contents = 'say three words';
const tools = [{ functionDeclarations: [{ name: weather.name, description: weather.description, parametersJsonSchema: weather.parameters }] }];
const anyTool = { tools, toolConfig: { functionCallingConfig: { mode: FunctionCallingConfigMode.ANY } } };
const used = (u) => billed(u.promptTokenCount, (u.candidatesTokenCount ?? 0) + (u.thoughtsTokenCount ?? 0));

const isApiError = (status) => (e) => {
  assert.ok(e instanceof ApiError, e);
  assert.equal(e.status, status);
};

// useTool has a model call a tool, and go on with what it returned.
const useTool = async (model) => {
  const first = await google.models.generateContent({ model, contents, config: anyTool });
  const [call] = first.functionCalls;
  assert.equal(call.name, weather.name);
  assert.equal(typeof call.args.a, 'string');
  used(first.usageMetadata);
  const second = await google.models.generateContent({
    model, config: { tools },
    contents: [
      { role: 'user', parts: [{ text: contents }] }, first.candidates[0].content,
      { role: 'user', parts: [{ functionResponse: { name: call.name, response: { result: 'warm' } } }] },
    ],
  });
  assert.equal(second.functionCalls, undefined);
  used(second.usageMetadata);
};

const streamTool = async (model) => {
  let call, usage;
  for await (const chunk of await google.models.generateContentStream({ model, contents, config: anyTool })) {
    call = chunk.functionCalls?.[0] ?? call;
    usage = chunk.usageMetadata ?? usage;
  }
  assert.equal(call.name, weather.name);
  assert.equal(typeof call.args.a, 'string');
  used(usage);
};

await run({
  async generate() {
    const answer = await google.models.generateContent({ model, contents, config: { temperature: 0.3, maxOutputTokens: 50 } });
    assert.equal(answer.text, ' tok tok tok');
    assert.equal(answer.candidates[0].finishReason, 'STOP');
    used(answer.usageMetadata);
  },
  async stream() {
    let text = '', usage;
    for await (const chunk of await google.models.generateContentStream({ model, contents })) {
      text += chunk.text ?? '';
      usage = chunk.usageMetadata ?? usage;
    }
    assert.equal(text, ' tok tok tok');
    used(usage);
  },
  async thoughts() {
    const extraBody = { simulate: { prompt_tokens: 30, cached_tokens: 10, completion_tokens: 9, reasoning_tokens: 4 } };
    const answer = await google.models.generateContent({ model, contents, config: { httpOptions: { extraBody } } });
    assert.equal(answer.usageMetadata.thoughtsTokenCount, 4);
    assert.equal(answer.usageMetadata.candidatesTokenCount, 5);
    assert.equal(answer.usageMetadata.cachedContentTokenCount, 10);
    used(answer.usageMetadata);
  },
  async chat() {
    const chat = google.chats.create({ model });
    used((await chat.sendMessage({ message: 'one two' })).usageMetadata);
    const second = await chat.sendMessage({ message: 'three' });
    assert.ok(second.usageMetadata.promptTokenCount > 3, 'the history was not sent');
    used(second.usageMetadata);
  },
  async tools() {
    await useTool(model);
  },
  async 'tools in a stream'() {
    await streamTool(model);
  },
  async json() {
    const answer = await google.models.generateContent({ model, contents, config: { responseMimeType: 'application/json', responseJsonSchema: weather.parameters } });
    assert.equal(typeof JSON.parse(answer.text).a, 'string');
    used(answer.usageMetadata);
  },
  async image() {
    const answer = await google.models.generateContent({
      model: 'gemini-2.5-flash-image', contents, config: { responseModalities: ['TEXT', 'IMAGE'], imageConfig: { aspectRatio: '16:9', imageSize: '2K' } },
    });
    isPNG(answer.candidates[0].content.parts.find((p) => p.inlineData).inlineData.data);
    used(answer.usageMetadata);
  },
  async 'models of others'() {
    for (const model of others) {
      const answer = await google.models.generateContent({ model, contents, config: { systemInstruction: 'be brief', temperature: 0.3, maxOutputTokens: 50 } });
      assert.equal(answer.text, ' tok tok tok tok tok');
      assert.equal(answer.candidates[0].finishReason, 'STOP');
      assert.equal(answer.modelVersion, model);
      used(answer.usageMetadata);
      let text = '', usage, finish;
      for await (const chunk of await google.models.generateContentStream({ model, contents })) {
        text += chunk.text ?? '';
        usage = chunk.usageMetadata ?? usage;
        finish = chunk.candidates?.[0]?.finishReason ?? finish;
      }
      assert.equal(text, ' tok tok tok');
      assert.equal(finish, 'STOP');
      used(usage);
    }
  },
  async 'chat with models of others'() {
    for (const model of others) {
      const chat = google.chats.create({ model });
      used((await chat.sendMessage({ message: 'one two' })).usageMetadata);
      const second = await chat.sendMessage({ message: 'three' });
      assert.ok(second.usageMetadata.promptTokenCount > 3, 'the history was not sent');
      used(second.usageMetadata);
    }
  },
  async 'thoughts of models of others'() {
    const extraBody = { simulate: { prompt_tokens: 30, cached_tokens: 10, completion_tokens: 9, reasoning_tokens: 4 } };
    for (const model of others) {
      const { usageMetadata: usage } = await google.models.generateContent({ model, contents, config: { httpOptions: { extraBody } } });
      assert.deepEqual([usage.promptTokenCount, usage.cachedContentTokenCount, usage.candidatesTokenCount, usage.thoughtsTokenCount], [30, 10, 5, 4]);
      used(usage);
    }
  },
  async 'tools of models of others'() {
    for (const model of others) {
      await useTool(model);
      await streamTool(model);
    }
  },
  async 'json of models of others'() {
    for (const model of others) {
      const answer = await google.models.generateContent({ model, contents, config: { responseMimeType: 'application/json', responseSchema: { type: Type.OBJECT, properties: { a: { type: Type.STRING } } } } });
      assert.equal(typeof JSON.parse(answer.text).a, 'string');
      used(answer.usageMetadata);
    }
  },
  async 'models of others fail'() {
    for (const model of others) {
      await refused(() => google.models.generateContent({ model, contents, config: { httpOptions: { extraBody: { simulate: { status: 500 } } } } }), isApiError(502));
      const extraBody = { simulate: { completion_tokens: 8, error_after_chunks: 2 } };
      await refused(async () => {
        for await (const chunk of await google.models.generateContentStream({ model, contents, config: { httpOptions: { extraBody } } })) assert.ok(chunk);
      }, (e) => assert.ok(e instanceof ApiError, e));
      billed(3, 2); // what it wrote
    }
  },
  async 'a search of the provider'() {
    await refused(() => google.models.generateContent({ model, contents, config: { tools: [{ googleSearch: {} }] } }), (e) => {
      isApiError(400)(e);
      assert.match(e.message, /googleSearch/);
    });
  },
  async 'wrong key'() {
    await refused(() => client(wrong).models.generateContent({ model, contents }), (e) => {
      isApiError(401)(e);
      assert.equal(JSON.parse(e.message).error.status, 'UNAUTHENTICATED');
      assert.ok(!e.message.includes(wrong), 'the key is shown');
    });
  },
  async 'disabled key'() {
    await refused(() => client(disabled).models.generateContent({ model, contents }), isApiError(403));
  },
  async 'budget spent'() {
    await refused(() => client(broke).models.generateContent({ model, contents }), isApiError(402));
  },
  async 'no such model'() {
    await refused(() => google.models.generateContent({ model: 'gemini-0', contents }), (e) => {
      isApiError(404)(e);
      assert.equal(JSON.parse(e.message).error.status, 'NOT_FOUND');
    });
  },
  async 'limited key'() {
    const slow = client(limited);
    await slow.models.generateContent({ model, contents });
    await refused(() => slow.models.generateContent({ model, contents }), (e) => {
      isApiError(429)(e);
      assert.equal(JSON.parse(e.message).error.status, 'RESOURCE_EXHAUSTED');
    });
  },
  async 'provider fails'() {
    await refused(() => google.models.generateContent({ model, contents, config: { httpOptions: { extraBody: { simulate: { status: 500 } } } } }), isApiError(502));
  },
  async 'provider fails inside a stream'() {
    const extraBody = { simulate: { completion_tokens: 8, error_after_chunks: 2 } };
    await refused(async () => {
      for await (const chunk of await google.models.generateContentStream({ model, contents, config: { httpOptions: { extraBody } } })) assert.ok(chunk);
    }, (e) => assert.ok(e instanceof ApiError, e));
    billed(3, 2); // what it wrote
  },
});
