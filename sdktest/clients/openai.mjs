import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { billed, broke, disabled, isPNG, key, limited, refused, run, url, weather, wrong } from './harness.mjs';

const client = (apiKey) => new OpenAI({ apiKey, baseURL: `${url}/v1`, maxRetries: 0 });
const openai = client(key);
const model = 'gpt-4o';
const hello = [{ role: 'user', content: 'say three words' }];
const tools = [{ type: 'function', function: weather }];

function used(usage) {
  billed(usage.prompt_tokens, usage.completion_tokens);
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
}

await run({
  async models() {
    const ids = [];
    for await (const m of openai.models.list()) ids.push(m.id);
    assert.ok(ids.includes(model) && ids.includes('gemini-2.5-flash-image'), ids.join());
    assert.ok(!ids.includes('sonnet-4-6'), 'an alias is listed');
  },
  async chat() {
    const { data, response } = await openai.chat.completions.create({ model, messages: hello, temperature: 0.2 }).withResponse();
    assert.equal(data.object, 'chat.completion');
    assert.equal(data.choices[0].message.content, ' tok tok tok');
    assert.equal(data.choices[0].finish_reason, 'stop');
    assert.match(data.id, /^chatcmpl-/);
    assert.match(data._request_id, /^[0-9a-f-]{36}$/);
    assert.equal(response.headers.get('x-request-id'), data._request_id);
    used(data.usage);
  },
  async stream() {
    const stream = await openai.chat.completions.create({ model, messages: hello, stream: true, stream_options: { include_usage: true } });
    let text = '', usage, finish;
    for await (const chunk of stream) {
      text += chunk.choices.length ? (chunk.choices[0].delta.content ?? '') : '';
      finish = chunk.choices[0]?.finish_reason ?? finish;
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, ' tok tok tok');
    assert.equal(finish, 'stop');
    used(usage);
  },
  async 'stream without usage'() {
    const stream = await openai.chat.completions.create({ model, messages: hello, stream: true });
    let text = '';
    for await (const chunk of stream) {
      assert.equal(chunk.usage ?? null, null);
      assert.ok(chunk.choices.length > 0, 'a chunk of usage that nobody asked for');
      text += chunk.choices[0].delta.content ?? '';
    }
    assert.equal(text, ' tok tok tok');
    billed(3, 3); // metered all the same
  },
  async tools() {
    const first = await openai.chat.completions.create({ model, messages: hello, tools, tool_choice: 'required' });
    used(first.usage);
    const message = first.choices[0].message, call = message.tool_calls[0];
    assert.equal(first.choices[0].finish_reason, 'tool_calls');
    assert.equal(call.function.name, weather.name);
    JSON.parse(call.function.arguments);
    const second = await openai.chat.completions.create({
      model, tools, messages: [...hello, message, { role: 'tool', tool_call_id: call.id, content: '21 degrees' }],
    });
    assert.equal(second.choices[0].finish_reason, 'stop');
    used(second.usage);
  },
  async 'tools in a stream'() {
    const runner = openai.chat.completions.stream({ model, messages: hello, tools, tool_choice: { type: 'function', function: { name: weather.name } }, stream_options: { include_usage: true } });
    const final = await runner.finalChatCompletion();
    assert.equal(final.choices[0].message.tool_calls[0].function.name, weather.name);
    JSON.parse(final.choices[0].message.tool_calls[0].function.arguments);
    used(final.usage);
  },
  async 'stream of translated models'() {
    for (const model of ['claude-haiku-4-5', 'gemini-2.5-flash-image']) {
      const stream = await openai.chat.completions.create({ model, messages: hello, stream: true });
      let text = '';
      for await (const chunk of stream) text += chunk.choices[0].delta.content ?? '';
      assert.equal(text, ' tok tok tok');
      billed(3, 3);
    }
  },
  async 'tools of a translated model'() {
    const runner = openai.chat.completions.stream({ model: 'claude-haiku-4-5', messages: hello, tools, tool_choice: 'required', stream_options: { include_usage: true } });
    const final = await runner.finalChatCompletion();
    assert.equal(final.choices[0].finish_reason, 'tool_calls');
    JSON.parse(final.choices[0].message.tool_calls[0].function.arguments);
    used(final.usage);
  },
  async 'response format'() {
    const schema = { name: 'answer', schema: weather.parameters };
    const answer = await openai.chat.completions.parse({ model, messages: hello, response_format: { type: 'json_schema', json_schema: schema } });
    assert.equal(typeof JSON.parse(answer.choices[0].message.content).a, 'string');
    used(answer.usage);
    const translated = await openai.chat.completions.parse({ model: 'claude-haiku-4-5', messages: hello, response_format: { type: 'json_schema', json_schema: schema } });
    assert.equal(typeof JSON.parse(translated.choices[0].message.content).a, 'string');
    used(translated.usage);
  },
  async image() {
    const answer = await openai.chat.completions.create({ model: 'gemini-2.5-flash-image', messages: hello, aspect_ratio: '16:9', image_size: '2K', top_k: 40 });
    const [, data] = answer.choices[0].message.images[0].image_url.url.split('base64,');
    isPNG(data);
    used(answer.usage);
  },
  async 'image in a stream'() {
    const stream = await openai.chat.completions.create({ model: 'gemini-2.5-flash-image', messages: hello, stream: true, stream_options: { include_usage: true } });
    let url, usage;
    for await (const chunk of stream) {
      url = chunk.choices[0]?.delta?.images?.[0]?.image_url.url ?? url;
      usage = chunk.usage ?? usage;
    }
    isPNG(url.split('base64,')[1]);
    used(usage);
  },
  async 'image with a ratio that there is not'() {
    await refused(() => openai.chat.completions.create({ model: 'gemini-2.5-flash-image', messages: hello, aspect_ratio: '7:1' }), (e) => {
      assert.ok(e instanceof OpenAI.BadRequestError, e);
    });
  },
  async 'wrong key'() {
    await refused(() => client(wrong).chat.completions.create({ model, messages: hello }), (e) => {
      assert.ok(e instanceof OpenAI.AuthenticationError, e);
      assert.equal(e.code, 'invalid_api_key');
      assert.ok(!e.message.includes(wrong), 'the key is shown');
    });
  },
  async 'disabled key'() {
    await refused(() => client(disabled).chat.completions.create({ model, messages: hello }), (e) => assert.ok(e instanceof OpenAI.PermissionDeniedError, e));
  },
  async 'budget spent'() {
    await refused(() => client(broke).chat.completions.create({ model, messages: hello }), (e) => {
      assert.ok(e instanceof OpenAI.APIError, e);
      assert.equal(e.status, 402);
      assert.equal(e.code, 'insufficient_quota');
    });
  },
  async 'no such model'() {
    await refused(() => openai.chat.completions.create({ model: 'gpt-0', messages: hello }), (e) => {
      assert.ok(e instanceof OpenAI.NotFoundError, e);
      assert.equal(e.code, 'model_not_found');
      assert.equal(e.param, 'model');
    });
  },
  async 'context exceeded'() {
    await refused(() => openai.chat.completions.create({ model, messages: hello, max_tokens: 10_000_000 }), (e) => {
      assert.ok(e instanceof OpenAI.BadRequestError, e);
      assert.equal(e.code, 'context_length_exceeded');
    });
  },
  async 'limited key'() {
    const slow = client(limited);
    await slow.chat.completions.create({ model, messages: hello });
    await refused(() => slow.chat.completions.create({ model, messages: hello }), (e) => {
      assert.ok(e instanceof OpenAI.RateLimitError, e);
      assert.equal(e.code, 'rate_limit_exceeded');
      assert.ok(Number(e.headers.get('retry-after')) >= 1);
      assert.equal(e.headers.get('x-ratelimit-remaining-requests'), '0');
    });
  },
  async 'provider fails'() {
    await refused(() => openai.chat.completions.create({ model, messages: hello, simulate: { status: 500 } }), (e) => {
      assert.ok(e instanceof OpenAI.InternalServerError, e);
      assert.equal(e.status, 502);
    });
  },
  async 'provider fails inside a stream'() {
    const stream = await openai.chat.completions.create({ model, messages: hello, stream: true, simulate: { completion_tokens: 8, error_after_chunks: 2 } });
    await refused(async () => {
      for await (const chunk of stream) assert.ok(chunk);
    }, (e) => assert.ok(e instanceof OpenAI.APIError, e));
    billed(3, 2); // what it wrote
  },
});
