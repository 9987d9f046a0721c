import assert from 'node:assert/strict';
import Anthropic from '@anthropic-ai/sdk';
import { billed, broke, disabled, key, limited, refused, run, url, weather, wrong } from './harness.mjs';

const client = (apiKey) => new Anthropic({ apiKey, baseURL: url, maxRetries: 0 });
const anthropic = client(key);
const model = 'claude-sonnet-4-6';
const others = ['deepseek-chat', 'gemini-2.5-pro']; // whose providers speak OpenAI's dialect, and Google's
const ask = { model, max_tokens: 100, messages: [{ role: 'user', content: 'say three words' }] };
const tools = [{ name: weather.name, description: weather.description, input_schema: weather.parameters }];
const used = (usage) => billed(usage.input_tokens + (usage.cache_read_input_tokens ?? 0) + (usage.cache_creation_input_tokens ?? 0), usage.output_tokens);

const eventsInOrder = async (model) => {
  const seen = [];
  for await (const event of await anthropic.messages.create({ ...ask, model, stream: true })) seen.push(event.type);
  assert.deepEqual([...new Set(seen)], ['message_start', 'content_block_start', 'content_block_delta', 'content_block_stop', 'message_delta', 'message_stop']);
  billed(3, 3);
};

// useTool has a model call a tool, and go on with what it returned.
const useTool = async (model) => {
  const first = await anthropic.messages.create({ ...ask, model, tools, tool_choice: { type: 'any' } });
  const use = first.content.find((b) => b.type === 'tool_use');
  assert.equal(first.stop_reason, 'tool_use');
  assert.equal(use.name, weather.name);
  assert.equal(typeof use.input.a, 'string');
  used(first.usage);
  const second = await anthropic.messages.create({
    ...ask, model, tools,
    messages: [...ask.messages, { role: 'assistant', content: first.content }, { role: 'user', content: [{ type: 'tool_result', tool_use_id: use.id, content: 'it is warm' }] }],
  });
  assert.equal(second.stop_reason, 'end_turn');
  used(second.usage);
};

const streamTool = async (model) => {
  const final = await anthropic.messages.stream({ ...ask, model, tools, tool_choice: { type: 'tool', name: weather.name } }).finalMessage();
  assert.equal(typeof final.content.find((b) => b.type === 'tool_use').input.a, 'string');
  used(final.usage);
};

await run({
  async messages() {
    const message = await anthropic.messages.create({ ...ask, system: 'be brief' });
    assert.equal(message.type, 'message');
    assert.equal(message.content[0].text, ' tok tok tok tok tok');
    assert.equal(message.stop_reason, 'end_turn');
    assert.match(message._request_id, /^[0-9a-f-]{36}$/);
    used(message.usage);
  },
  async alias() {
    used((await anthropic.messages.create({ ...ask, model: 'sonnet-4-6' })).usage);
  },
  async 'key as a bearer'() {
    const bearer = new Anthropic({ authToken: key, apiKey: null, baseURL: url, maxRetries: 0 });
    used((await bearer.messages.create(ask)).usage);
  },
  async stream() {
    await eventsInOrder(ask.model);
  },
  async 'stream helper'() {
    let text = '';
    const final = await anthropic.messages.stream(ask).on('text', (t) => (text += t)).finalMessage();
    assert.equal(text, ' tok tok tok');
    assert.equal(final.content[0].text, text);
    used(final.usage);
  },
  async 'cached prompt'() {
    const cached = { simulate: { prompt_tokens: 100, cached_tokens: 40, cache_write_5m: 20, cache_write_1h: 10, completion_tokens: 7 } };
    const final = await anthropic.messages.stream({ ...ask, ...cached }).finalMessage();
    assert.equal(final.usage.input_tokens, 30);
    assert.equal(final.usage.cache_read_input_tokens, 40);
    assert.equal(final.usage.cache_creation_input_tokens, 30);
    used(final.usage);
  },
  async tools() {
    await useTool(ask.model);
  },
  async 'tools in a stream'() {
    await streamTool(ask.model);
  },
  async 'models of others'() {
    for (const model of others) {
      const message = await anthropic.messages.create({ ...ask, model, system: 'be brief', stop_sequences: ['END'], temperature: 0.5 });
      assert.equal(message.content[0].text, ' tok tok tok tok tok');
      assert.equal(message.stop_reason, 'end_turn');
      assert.equal(message.model, model);
      used(message.usage);
      let text = '';
      const final = await anthropic.messages.stream({ ...ask, model }).on('text', (t) => (text += t)).finalMessage();
      assert.equal(text, ' tok tok tok');
      assert.equal(final.content[0].text, text);
      assert.equal(final.stop_reason, 'end_turn');
      used(final.usage);
    }
  },
  async 'events of models of others'() {
    for (const model of others) await eventsInOrder(model);
  },
  async 'cached prompts of models of others'() {
    for (const model of others) {
      const final = await anthropic.messages.stream({ ...ask, model, simulate: { prompt_tokens: 100, cached_tokens: 40, completion_tokens: 7, reasoning_tokens: 2 } }).finalMessage();
      assert.equal(final.usage.input_tokens, 60);
      assert.equal(final.usage.cache_read_input_tokens, 40);
      assert.equal(final.usage.output_tokens, 7);
      used(final.usage);
    }
  },
  async 'tools of models of others'() {
    for (const model of others) {
      await useTool(model);
      await streamTool(model);
    }
  },
  async 'models of others fail'() {
    for (const model of others) {
      await refused(() => anthropic.messages.create({ ...ask, model, simulate: { status: 429 } }), (e) => assert.ok(e instanceof Anthropic.InternalServerError, e));
      await refused(() => anthropic.messages.stream({ ...ask, model, simulate: { completion_tokens: 8, error_after_chunks: 2 } }).finalMessage(), (e) => {
        assert.ok(e instanceof Anthropic.APIError, e);
        assert.equal(e.type, 'api_error');
      });
      billed(3, 2); // what it wrote
    }
  },
  async 'what a model of others cannot do'() {
    await refused(() => anthropic.messages.create({ ...ask, model: others[0], tools: [{ type: 'bash_20250124', name: 'bash' }] }), (e) => {
      assert.ok(e instanceof Anthropic.BadRequestError, e);
      assert.match(e.message, /bash_20250124/);
    });
  },
  async 'a search of the provider'() {
    await refused(() => anthropic.messages.create({ ...ask, tools: [{ type: 'web_search_20250305', name: 'web_search' }] }), (e) => {
      assert.ok(e instanceof Anthropic.BadRequestError, e);
      assert.match(e.message, /web_search_20250305/);
    });
  },
  async 'wrong key'() {
    await refused(() => client(wrong).messages.create(ask), (e) => {
      assert.ok(e instanceof Anthropic.AuthenticationError, e);
      assert.equal(e.type, 'authentication_error');
      assert.match(e.requestID, /^[0-9a-f-]{36}$/);
      assert.ok(!e.message.includes(wrong), 'the key is shown');
    });
  },
  async 'disabled key'() {
    await refused(() => client(disabled).messages.create(ask), (e) => assert.ok(e instanceof Anthropic.PermissionDeniedError, e));
  },
  async 'budget spent'() {
    await refused(() => client(broke).messages.create(ask), (e) => {
      assert.ok(e instanceof Anthropic.APIError, e);
      assert.equal(e.status, 402);
      assert.equal(e.type, 'billing_error');
    });
  },
  async 'no such model'() {
    await refused(() => anthropic.messages.create({ ...ask, model: 'claude-0' }), (e) => {
      assert.ok(e instanceof Anthropic.NotFoundError, e);
      assert.equal(e.type, 'not_found_error');
    });
  },
  async 'no max_tokens'() {
    await refused(() => anthropic.messages.create({ model, messages: ask.messages }), (e) => assert.ok(e instanceof Anthropic.BadRequestError, e));
  },
  async 'limited key'() {
    const slow = client(limited);
    await slow.messages.create(ask);
    await refused(() => slow.messages.create(ask), (e) => {
      assert.ok(e instanceof Anthropic.RateLimitError, e);
      assert.equal(e.type, 'rate_limit_error');
      assert.ok(Number(e.headers.get('retry-after')) >= 1);
    });
  },
  async 'provider fails'() {
    await refused(() => anthropic.messages.create({ ...ask, simulate: { status: 529 } }), (e) => assert.ok(e instanceof Anthropic.InternalServerError, e));
  },
  async 'provider fails inside a stream'() {
    await refused(() => anthropic.messages.stream({ ...ask, simulate: { completion_tokens: 8, error_after_chunks: 2 } }).finalMessage(), (e) => {
      assert.ok(e instanceof Anthropic.APIError, e);
      assert.equal(e.type, 'api_error');
    });
    billed(3, 2); // what it wrote
  },
});
