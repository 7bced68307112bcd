/**
 * Teaches a model to answer: conversations of a novel, of which only the answers are learned.
 *
 * ```sh
 * deno run --allow-read --allow-write examples/chat.ts
 * ```
 *
 * @module
 */

import {
  adamW,
  chain,
  clipByGlobalNorm,
  cosine,
  defineTraining,
  evaluate,
  type Gpu,
  type Model,
  nextTokenLoss,
  scan,
  type TokenBatch,
} from "@firn/train";
import {
  type ChatTemplate,
  chatTemplate,
  type Corpus,
  encodeHere,
  evaluationBatches,
  loadChatTemplate,
  loadTokenizer,
  memoryFileSystem,
  type Message,
  openRows,
  rowBatches,
  sampleEncoder,
  sampleSource,
  splitRows,
} from "@firn/train/data";
import { counted } from "@firn/train/report";
import { startChat } from "./chat_turns.ts";
import { positive, readFlags, runMain, text, type Values, whole } from "./flags.ts";
import { helpOf } from "./help.ts";
import { GPU_FLAGS, openShown } from "./gpu.ts";
import { locateData, locateModel, MODEL } from "./hub.ts";
import { loadShown } from "./load_model.ts";
import { print } from "./print.ts";
import { clock, progress, stage } from "./progress.ts";
import { quoted } from "./sample.ts";
import { openText } from "./text.ts";

/** The flags of the command. */
export const FLAGS = {
  model: MODEL,
  data: text("FILE", "rows of messages; what people say to each other in Moby-Dick when absent", null),
  steps: whole("optimizer steps", 40),
  batch: whole("rows in a batch", 8),
  length: whole("tokens of a row at most; several conversations share one", 128, 2),
  lr: positive("largest learning rate, after warm-up", 1e-3),
  seed: whole("seed of the order of rows", 0, 0),
  ...GPU_FLAGS,
};

const USAGE = `usage: deno run --allow-read --allow-write examples/chat.ts [flags]

Fine-tunes a model on conversations, a tenth held out. Prints how well held-out answers are predicted, beside the model before it
was trained, and an answer.`;

type Flags = Values<typeof FLAGS>;

/** Turns of a conversation, and tokens of held-out rows that are judged, about. */
const TURNS = 4, MOST_HELD = 4096;

/** The template of models that bring none. */
const PLAIN = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}" +
  "{% if add_generation_prompt %}assistant:{% endif %}";

/**
 * What people say to each other in a text: neighbouring quotations of a chapter, by turns of two speakers.
 *
 * @param corpus The text
 * @returns Conversations
 */
export async function conversationsOf(corpus: Corpus): Promise<readonly (readonly Message[])[]> {
  const all: (readonly Message[])[] = [];
  let chapter = "";
  for await (const { text, ends } of corpus.pieces()) {
    chapter += text;
    if (!ends) continue;
    const said = [...chapter.matchAll(/[“"]([^”"]{8,200})[”"]/g)].map(([, quote]) =>
      quote.replace(/\s+/g, " ")
    );
    chapter = "";
    for (let i = 0; i + TURNS <= said.length; i += TURNS) {
      all.push(
        said.slice(i, i + TURNS).map((content, k) => ({ role: k % 2 === 0 ? "user" : "assistant", content })),
      );
    }
  }
  return all;
}

async function perplexity(gpu: Gpu, model: Model, batches: readonly TokenBatch[]): Promise<number> {
  return Math.exp((await evaluate(gpu, { loss: nextTokenLoss(model), params: model.params, batches })).loss);
}

/** Trains, and gives the model with its new parameters. */
async function trained(
  gpu: Gpu,
  model: Model,
  { batches, flags: { steps, lr } }: { readonly batches: AsyncIterable<TokenBatch>; readonly flags: Flags },
): Promise<Model> {
  using training = defineTraining(gpu, nextTokenLoss(model), {
    optimizer: chain(
      clipByGlobalNorm(1),
      adamW({ learningRate: cosine({ peak: lr, warmup: Math.ceil(steps / 10), steps }) }),
    ),
    steps,
    lookEvery: Math.min(10, steps),
  });
  const bar = progress(steps);
  let state = await training.init(model.params);
  for await (state of scan(training, state, batches)) {
    if (state.look !== null) bar.update(state.step, [`loss ${state.look.loss.at(-1)!.toFixed(3)}`]);
    else bar.move(state.step);
  }
  bar.end();
  return { ...model, params: state.params };
}

async function rowsOf({ data }: Flags) {
  if (data !== null) return await openRows(await locateData([data]), { kind: "chat" });
  const lines = (await conversationsOf(await openText("moby-dick"))).map((messages) =>
    JSON.stringify({ messages })
  );
  const fileSystem = memoryFileSystem({ "said.jsonl": lines.join("\n") });
  return await openRows("said.jsonl", { kind: "chat", fileSystem });
}

/**
 * Runs the example.
 *
 * @param args The command line
 */
export async function main(args: readonly string[]): Promise<void> {
  const { values: flags, help } = readFlags(args, FLAGS);
  if (help) return print(helpOf(USAGE, FLAGS, help));
  const began = performance.now(), { folder } = await locateModel(flags.model);
  const rows = splitRows(await stage(`reading     ${flags.data ?? "moby-dick"}`, () => rowsOf(flags)));
  await using gpu = await openShown(flags);
  const model = await loadShown(gpu, folder), tokenizer = await loadTokenizer(folder, { model });
  const template: ChatTemplate = await loadChatTemplate(folder) ?? chatTemplate(PLAIN);
  const encode = encodeHere<"chat">(sampleEncoder(tokenizer, { template }));
  const pack = model.family.inputs?.includes("segments") === true;
  const options = { ...flags, pack, long: "cutEnd" as const, pad: tokenizer.eos ?? 0 };
  const batches = await rowBatches(sampleSource(rows.train, { encode }), options);
  const held = await evaluationBatches(sampleSource(rows.heldOut, { encode }), {
    ...options,
    tokens: MOST_HELD,
  });
  print(`data        ${counted(rows.train.count, "conversation")} to learn, ${rows.heldOut.count} held out`);
  const before = await perplexity(gpu, model, held);
  const after = await trained(gpu, model, { batches: batches.from(1), flags });
  print();
  print(`perplexity of held-out answers`);
  print(`${"before".padEnd(11)} ${before.toFixed(2)}, the baseline`);
  print(`${"after".padEnd(11)} ${(await perplexity(gpu, after, held)).toFixed(2)}`);
  const question = "Who are you, and what do you want here?";
  using chat = startChat({ gpu, model: after, tokenizer, folder }, {
    template,
    system: null,
    maxTokens: 32,
    sampling: { temperature: 0.7, topP: 0.9, seed: flags.seed },
    stop: ["\n"],
  });
  const answer = (await Array.fromAsync(chat.ask(question))).join("");
  print(`${"asked".padEnd(11)} ${quoted(question)}`);
  print(`${"answer".padEnd(11)} ${quoted(answer)}`);
  print(`${"time".padEnd(11)} ${clock(performance.now() - began)}`);
}

if (import.meta.main) await runMain(main, "chat");
