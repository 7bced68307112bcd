/**
 * Pretrains a small Llama from scratch, with a tokenizer of its own, and saves it as a Hugging Face folder.
 *
 * ```sh
 * deno run --allow-read --allow-write examples/pretrain.ts --help
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
  flatten,
  newModel,
  nextTokenLoss,
  scan,
  sizeOf,
} from "@firn/train";
import { type Corpus, loadTokenizer, packCorpus, splitCorpus, tokenWindows } from "@firn/train/data";
import { saveModel } from "@firn/train/hub";
import { trainBpe, writeTokenizer } from "./bpe.ts";
import { helpOf, positive, readFlags, runMain, text, UsageError, whole } from "./flags.ts";
import { GPU_FLAGS, openDevice } from "./gpu.ts";
import { checkOutput, claimFolder } from "./output.ts";
import { perplexity } from "./perplexity.ts";
import { print } from "./print.ts";
import { clock, progress, stage } from "./progress.ts";
import { continueText } from "./sample.ts";
import { openText } from "./text.ts";

const FLAGS = {
  data: text("NAME|FILE", "sotu, moby-dick, or a .txt or .jsonl file", "sotu"),
  steps: whole("optimizer steps", 4000),
  batch: whole("sequences in a batch", 32),
  length: whole("tokens in a sequence, and the longest that the model takes", 256, 2),
  lr: positive("largest learning rate", 3e-3),
  vocab: whole("entries of the vocabulary", 2048, 258),
  hidden: whole("channels", 128),
  layers: whole("blocks", 5),
  heads: whole("query heads", 4),
  "kv-heads": whole("key and value heads", 2),
  mlp: whole("channels of the MLP", 344),
  seed: whole("seed of weights and batches", 0, 0),
  out: text("DIR", "folder of the new model", "out/pretrained"),
  ...GPU_FLAGS,
};

const USAGE = `usage: deno run --allow-read --allow-write examples/pretrain.ts [flags]

Trains a tokenizer and a Llama from scratch; the last tenth of the text is held out.`;

/**
 * Runs the command.
 *
 * @param args The command line
 */
export async function main(args: readonly string[]): Promise<void> {
  const { values: flags, help } = readFlags(args, FLAGS);
  if (help) return print(helpOf(USAGE, FLAGS));
  if (flags.hidden % flags.heads !== 0) {
    throw new UsageError(`--heads must divide --hidden ${flags.hidden}: got ${flags.heads}`);
  }
  if (flags.heads % flags["kv-heads"] !== 0) {
    throw new UsageError(`--kv-heads must divide --heads ${flags.heads}: got ${flags["kv-heads"]}`);
  }
  await checkOutput(flags.out, { resumed: false });
  const corpus = await stage(`reading     ${flags.data}`, () => openText(flags.data));
  await using gpu = await openDevice(flags);
  print(`adapter    ${gpu.name}${gpu.software ? " (software: right, but slow)" : ""}`);

  const { train, heldOut } = await splitCorpus(corpus);
  await Deno.mkdir(".firn", { recursive: true });
  const work = await Deno.makeTempDir({ dir: ".firn" });
  try {
    await stage(
      `learning    a tokenizer of ${flags.vocab} entries`,
      async () => await writeTokenizer(work, await trainBpe(train, { vocabSize: flags.vocab })),
    );
    const tokenizer = await loadTokenizer(work);
    const windows = async (corpus: Corpus) => tokenWindows(await packCorpus(tokenizer, corpus), flags);
    const [batches, held] = await stage(
      `tokenizing  ${flags.data}`,
      async () => [await windows(train), (await windows(heldOut)).all()] as const,
    );
    const source = {
      model_type: "llama",
      hidden_size: flags.hidden,
      intermediate_size: flags.mlp,
      num_hidden_layers: flags.layers,
      num_attention_heads: flags.heads,
      num_key_value_heads: flags["kv-heads"],
      vocab_size: tokenizer.vocabSize,
      max_position_embeddings: flags.length,
      rms_norm_eps: 1e-5,
      rope_theta: 10000,
      hidden_act: "silu",
      tie_word_embeddings: true,
      attention_bias: false,
      mlp_bias: false,
      bos_token_id: tokenizer.eos,
      eos_token_id: tokenizer.eos,
      dtype: "bfloat16",
    };
    const model = await stage(
      "drawing     the first weights",
      () => newModel(gpu, { source, seed: flags.seed }),
    );
    const parameters = [...flatten(model.params).values()].reduce((n, { shape }) => n + sizeOf(shape), 0);
    print(`model      ${(parameters / 1e6).toFixed(2)} M parameters`);
    print(
      `text       ${batches.count} windows of ${flags.length} tokens, ${held.length} batches held out`,
    );

    const { steps } = flags;
    const training = defineTraining(gpu, nextTokenLoss(model), {
      optimizer: chain(
        clipByGlobalNorm(1),
        adamW({
          learningRate: cosine({
            peak: flags.lr,
            warmup: Math.ceil(steps / 50),
            steps,
            floor: flags.lr / 20,
          }),
          beta2: 0.95,
          weightDecay: 0.1,
        }),
      ),
      steps,
      lookEvery: Math.min(50, steps),
    });
    const folder = await claimFolder(flags.out, { resumed: false });
    const bar = progress(steps), started = performance.now();
    bar.update(0, ["compiling the training step"]);
    let params = model.params;
    for await (const state of scan(training, await training.init(model.params), batches.from(1))) {
      params = state.params;
      if (state.look === null) {
        bar.move(state.step);
        continue;
      }
      const pace = state.step * flags.batch * flags.length / (performance.now() - started) * 1000;
      bar.update(state.step, [`loss ${state.look.loss.at(-1)!.toFixed(3)}`, `${Math.round(pace)} tokens/s`]);
    }
    bar.end();

    const trained = { ...model, params };
    print(`trained    ${steps} steps in ${clock(performance.now() - started)}`);
    print(`perplexity ${(await perplexity(gpu, trained, held)).toFixed(2)} on held-out text`);
    const sample = await continueText(gpu, trained, { tokenizer, prompt: "My fellow citizens", seed: 0 });
    print(`sample     ${sample}`);
    const files = new Map<string, Uint8Array>();
    for (const name of ["tokenizer.json", "tokenizer_config.json"]) {
      files.set(name, await Deno.readFile(`${work}/${name}`));
    }
    await stage(`saving      ${folder}`, () => saveModel(gpu, trained, { folder, files }));
    print(`saved      ${folder}`);
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}

if (import.meta.main) await runMain(main, "pretrain");
