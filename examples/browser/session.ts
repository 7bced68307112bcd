/**
 * A model, a text and a training of both, made of files. Nothing here knows of a page: the test runs it in Deno, too.
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
  free,
  type Gpu,
  InputError,
  type Model,
  nextTokenLoss,
  type TokenBatch,
  type Training,
} from "@firn/train";
import { generateText } from "@firn/train/infer";
import {
  type FileSystem,
  loadTokenizer,
  openCorpus,
  packCorpus,
  type Tokenizer,
  type TokenWindows,
  tokenWindows,
} from "@firn/train/data";
import { companionFiles, loadModel, newAdapter, saveAdapter, saveModel } from "@firn/train/hub";
import { gradES } from "@firn/train/policies";
import { counted } from "@firn/train/report";
import { rateOf } from "../model_card.ts";
import type { Facts } from "./messages.ts";
import type { RunRecord, Settings } from "./settings.ts";

/** Rate of an adapter where the model's card names none, as is usual for LoRA. */
const ADAPTER_RATE = 2e-4;

/** Tokens of a sample, at most. */
const SAMPLE_TOKENS = 40;

/** Where a model or a text lies. */
export interface Place {
  readonly path: string;
  readonly fileSystem: FileSystem;
}

/** What {@link openSession} is given. */
export interface SessionRequest {
  /** Folder of the model. */
  readonly model: Place;
  /** File of the text. */
  readonly text: Place;
  readonly record: RunRecord;
  /** Hears what is done now. */
  readonly onStatus: (text: string) => void;
}

/** What a run trains, and on what. */
export interface Session extends Disposable {
  readonly record: RunRecord;
  readonly training: Training<object, TokenBatch>;
  readonly batches: TokenWindows;
  /** The model before the first step, with a new adapter where that is what is trained. */
  readonly model: Model;
  /** Steps between looks. */
  readonly lookEvery: number;
  /** Tokens in a batch. */
  readonly tokens: number;
  /** What the page says of it. */
  readonly facts: Facts;
  /** Continues the prompt; `onText` hears all of the text whenever there is more of it. */
  sample(params: object, onText: (text: string) => void): Promise<string>;
  /** Writes the trained model, or adapter, to a folder that does not exist. */
  save(params: object, to: Place): Promise<void>;
}

/**
 * Loads a model, encodes a text, and defines their training.
 *
 * @param gpu The device
 * @param request Where both lie, and the settings
 * @returns The session; its model is freed with it
 * @throws {FirnError} When the model, the text or a setting does not fit
 */
export async function openSession(gpu: Gpu, request: SessionRequest): Promise<Session> {
  const { model: { path: folder, fileSystem }, text, record, onStatus } = request, { settings } = record;
  onStatus(`Loading ${record.model}`);
  const loaded = await loadModel(gpu, folder, { fileSystem });
  const model = settings.method === "adapter"
    ? await newAdapter(gpu, loaded, { rank: settings.rank, base: record.model, seed: settings.seed })
    : loaded;
  const tokenizer = await loadTokenizer(folder, { model, fileSystem });
  if (settings.length > model.maxLength) {
    throw new InputError(
      `Cannot train on sequences of ${settings.length} tokens as ${record.model} allows ${model.maxLength}: give fewer`,
    );
  }
  // They are read now: the server of the page may be gone when all is done.
  const files = settings.method === "adapter" ? undefined : await companionFiles(folder, { fileSystem });
  onStatus(`Reading ${record.text}`);
  const corpus = await openCorpus(text.path, text);
  const ids = await packCorpus(tokenizer, corpus);
  const batches = tokenWindows(ids, settings);
  const { rate, why } = await peakRate(request);
  const lookEvery = Math.min(5, settings.steps), trained = trainedSize(model);
  return {
    record,
    model,
    batches,
    lookEvery,
    training: trainingOf(gpu, { model, batches, settings, rate, lookEvery }),
    tokens: settings.batch * settings.length,
    facts: [
      ["Model", `${record.model}, ${model.family.name}, ${count(trained)} parameters are trained`],
      [
        "Text",
        `${record.text}, ${counted(count(ids.length), "token")} in ${
          counted(count(batches.count), "sequence")
        }`,
      ],
      ["Learning rate", `${rate}, ${why}`],
    ],
    sample: (params, onText) => continueText(gpu, { ...model, params }, { tokenizer, settings, onText }),
    async save(params, to) {
      const options = { folder: to.path, fileSystem: to.fileSystem };
      if (settings.method === "adapter") return await saveAdapter(gpu, { ...model, params }, options);
      await saveModel(gpu, { ...model, params }, { ...options, files });
    },
    [Symbol.dispose]: () => free(model.params),
  };
}

const count = (n: number): string => n.toLocaleString("en");

function trainedSize({ params, trainable }: Model): number {
  return [...flatten(params)].reduce(
    (sum, [path, { shape }]) => sum + (trainable?.(path) ?? true ? shape.reduce((a, b) => a * b, 1) : 0),
    0,
  );
}

async function peakRate({ model, record: { settings } }: SessionRequest) {
  if (settings.rate !== null) return { rate: settings.rate, why: "as you set it" };
  const { rate, from } = await rateOf(model.path, null, model);
  if (from === "card") return { rate, why: "as the model's card recommends" };
  return settings.method === "adapter"
    ? { rate: ADAPTER_RATE, why: "usual for adapters" }
    : { rate, why: "usual for pretrained models" };
}

function trainingOf(
  gpu: Gpu,
  { model, batches, settings: { steps, freeze, tau, alpha }, rate, lookEvery }: {
    readonly model: Model;
    readonly batches: TokenWindows;
    readonly settings: Settings;
    readonly rate: number;
    readonly lookEvery: number;
  },
): Training<object, TokenBatch> {
  const learningRate = cosine({ peak: rate, warmup: Math.ceil(steps / 20), steps });
  return defineTraining(gpu, nextTokenLoss(model), {
    optimizer: chain(clipByGlobalNorm(1), adamW({ learningRate, decayed: "matrices" })),
    policy: freeze ? gradES({ tau, alpha }) : undefined,
    steps,
    lookEvery,
    data: batches.fingerprint,
  });
}

async function continueText(
  gpu: Gpu,
  model: Model,
  { tokenizer, settings: { prompt, seed }, onText }: {
    readonly tokenizer: Tokenizer;
    readonly settings: Settings;
    readonly onText: (text: string) => void;
  },
): Promise<string> {
  let text = prompt;
  const options = { tokenizer, prompt, maxTokens: SAMPLE_TOKENS, temperature: 0.8, topK: 40, seed };
  for await (const piece of generateText(gpu, model, options)) onText(text += piece);
  return text;
}
