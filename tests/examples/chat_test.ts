import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { InputError } from "@firn/train";
import { generate, textDecoder } from "@firn/train/infer";
import { chatTemplate, loadTokenizer } from "@firn/train/data";
import { loadModel } from "@firn/train/hub";
import { type ChatOptions, startChat, templateOf } from "../../examples/chat_turns.ts";
import { main as generateMain } from "../../examples/generate.ts";
import { save } from "../../examples/converse.ts";
import { paceText, partArgs } from "../../examples/prompting.ts";
import { failureOf, UsageError } from "../../examples/flags.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const folder = "examples/models/sotu";
const model = await loadModel(gpu, folder), tokenizer = await loadTokenizer(folder, { model });
const reader = { gpu, model, tokenizer, folder };
const OPTIONS: ChatOptions = {
  template: chatTemplate("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"),
  system: "Be brief.",
  maxTokens: 8,
  sampling: { temperature: 0 },
  stop: [],
};

async function said(answer: AsyncIterable<string>): Promise<string> {
  return (await Array.fromAsync(answer)).join("");
}

Deno.test("a chat gives the answers that a model gives without a cache of the turns before", async () => {
  using chat = startChat(reader, OPTIONS);
  const answers = [await said(chat.ask("The state of the Union?")), await said(chat.ask("And the people?"))];
  assertEquals(chat.messages.map(({ role }) => role), ["system", "user", "assistant", "user", "assistant"]);
  assertEquals([chat.messages[2].content, chat.messages[4].content], answers);
  assert(chat.pace.tokens === 8 && chat.pace.milliseconds > 0);
  // Another chat that begins with the first answer has to read it.
  using other = startChat(reader, {
    ...OPTIONS,
    system: "Be brief.\nuser: The state of the Union?\nassistant: " + answers[0],
  });
  assertEquals(await said(other.ask("And the people?")), answers[1]);
  chat.reset();
  assertEquals(chat.messages.length, 1);
  assertEquals(await said(chat.ask("The state of the Union?")), answers[0]);
});

Deno.test("a chat that is too long for the model leaves out its oldest turns", async () => {
  const short = { ...model, maxLength: 64 };
  using chat = startChat({ ...reader, model: short }, OPTIONS);
  for (let turn = 0; turn < 4; turn++) {
    assertMatch(await said(chat.ask("What of the navy and of the army?")), /\w/);
  }
  assertEquals(chat.messages.length, 9);
});

Deno.test("a chat remembers what was said also where an answer may fill the model", async () => {
  using chat = startChat(reader, { ...OPTIONS, maxTokens: 512, stop: [" "] });
  await said(chat.ask("The state of the Union?"));
  const second = await said(chat.ask("And the people?"));
  const [, user, assistant] = chat.messages;
  const ids = tokenizer.encode(
    OPTIONS.template.render({
      messages: [chat.messages[0], user, assistant, { role: "user", content: "And the people?" }],
    }, { addGenerationPrompt: true }).text,
  );
  const decoder = textDecoder(tokenizer, { before: ids, stop: [" "] });
  let text = "";
  for await (const id of generate(gpu, model, { prompt: ids, maxTokens: 64, stop: tokenizer.stop })) {
    text += decoder.add([id]);
    if (decoder.stopped) break;
  }
  assertEquals(second, text + decoder.end());
});

Deno.test("a message that is too long for the model is refused, and the conversation stays as it was", async () => {
  using chat = startChat(reader, OPTIONS);
  await said(chat.ask("The Union?"));
  const before = chat.messages;
  await assertRejects(() => said(chat.ask("whales ".repeat(400))), InputError, "write a shorter one");
  assertEquals(chat.messages, before);
  assertMatch(await said(chat.ask("The navy?")), /\w/);
});

Deno.test("an answer without a token has a pace of none", async () => {
  using chat = startChat({ ...reader, tokenizer: { ...tokenizer, stop: [...Array(2048).keys()] } }, OPTIONS);
  assertEquals(await said(chat.ask("The Union?")), "");
  assertEquals(chat.pace.tokens, 0);
});

Deno.test("a saved conversation is a line of its own, also in a file that does not end with one", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const path = `${folder}/new/chat.jsonl`, messages = [{ role: "user", content: "a\nb" }];
    await save({ messages }, path);
    await Deno.writeTextFile(path, (await Deno.readTextFile(path)).trimEnd());
    await save({ messages }, path);
    const line = JSON.stringify({ messages });
    assertEquals(await Deno.readTextFile(path), `${line}\n${line}\n`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a command whose output nobody reads any more ends without a word", () => {
  assertEquals(failureOf(new Deno.errors.BrokenPipe("x"), "generate"), { code: 141, text: "" });
});

Deno.test("chat refuses a model without a template", async () => {
  await assertRejects(() => templateOf(folder, null), Error, "as it must have a chat template: it has none");
});

Deno.test("generate asks for a model and a text, and knows its flags", async () => {
  assertEquals(partArgs(["m", "a text", "--seed", "1"]), { words: ["m", "a text"], flags: ["--seed", "1"] });
  assertEquals(partArgs(["m", "--seed", "1", "--", "- a", "--b"]), {
    words: ["m", "- a", "--b"],
    flags: ["--seed", "1"],
  });
  await assertRejects(() => generateMain(["m"]), UsageError, "then the text to continue in quotes");
  await assertRejects(
    () => generateMain(["m", "a", "--typical-p", "0"]),
    UsageError,
    "must be a number above 0 and",
  );
  await assertRejects(() => generateMain(["m", "a", "--top-p", "2"]), UsageError, "--top-p must be");
});

Deno.test("paceText counts all tokens, and times those after the first", () => {
  assertEquals([paceText(5, 1000), paceText(1, 20), paceText(0, 0)], [
    "5 tokens, 4.0 per second after the first",
    "1 token",
    "0 tokens",
  ]);
});
