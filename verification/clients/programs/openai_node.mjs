// OpenAI's client for Node.
import OpenAI from "openai";

const [url, model, question] = process.argv.slice(2);
const client = new OpenAI({ baseURL: url, apiKey: "none" });
const options = { model, messages: [{ role: "user", content: question }], max_tokens: 8, temperature: 0 };
const check = (held, what) => { if (!held) throw new Error(what); };

const names = [];
for await (const one of client.models.list()) names.push(one.id);
check(names.join() === model, "models");
const whole = await client.chat.completions.create(options);
check(whole._request_id && whole.usage.completion_tokens === 8, "usage");
let streamed = "", usage = null;
for await (const part of await client.chat.completions.create({ ...options, stream: true, stream_options: { include_usage: true } })) {
  streamed += part.choices[0]?.delta?.content ?? "";
  usage = part.usage ?? usage;
}
check(usage.completion_tokens === 8, "usage of a stream");
// Who leaves the loop leaves the stream.
for await (const part of await client.chat.completions.create({ ...options, max_tokens: 200, stream: true })) if (part.choices[0]?.delta?.content) break;
const gathered = await client.chat.completions.stream(options).finalContent().catch(error => { throw error; });
let told = null;
try { await client.chat.completions.create({ ...options, messages: [{ role: "user", content: "word ".repeat(5000) }] }); }
catch (error) { told = error; }
check(told instanceof OpenAI.BadRequestError && told.code === "context_length_exceeded", `error: ${told}`);
console.log(JSON.stringify({ answers: [whole.choices[0].message.content, streamed, gathered], seen: "models, chat, streams, one that is left, helper, errors" }));
