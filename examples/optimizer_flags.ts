/**
 * Flags of the optimizer, its rate, and what stands around it.
 *
 * @module
 */

import {
  adamW,
  chain,
  clipByGlobalNorm,
  constantRate,
  cosine,
  InputError,
  linearRate,
  type Optimizer,
  type Regularization,
  type Schedule,
  sgd,
  type TrainingOptions,
} from "@firn/train";
import {
  adafactor,
  adam,
  adamW8bit,
  cosineRestarts,
  globs,
  type GroupSettings,
  inverseRootRate,
  lion,
  loraPlus,
  muon,
  oneCycle,
  parameterGroups,
  polynomialRate,
  type RateOptions,
  scheduleFreeAdamW,
  warmupStableDecay,
  weightAverage,
  type WeightDecayOptions,
} from "@firn/train/optim";
import { type Flag, fromZero, oneOf, text, texts, topic, UsageError, type Values, whole } from "./flags.ts";

/** What all optimizers take. */
type Settings = RateOptions & WeightDecayOptions;

const OPTIMIZERS: Readonly<Record<string, (options: Settings) => Optimizer>> = {
  adamW,
  adamW8bit,
  scheduleFree: scheduleFreeAdamW,
  // A group that names its decay means what AdamW updates there, too.
  muon: ({ decayed, ...options }) =>
    muon({
      ...options,
      ...decayed === "all" && { adamW: { weightDecay: options.weightDecay } },
    }),
  lion,
  adafactor,
  adam,
  sgd: (options) => sgd({ momentum: 0.9, nesterov: true, ...options }),
};

/** Schedules by peak, warm-up and steps. */
const SCHEDULES: Readonly<
  Record<
    string,
    (
      options: {
        readonly peak: number;
        readonly warmup: number;
        readonly steps: number;
        readonly floor?: number;
      },
    ) => Schedule
  >
> = {
  cosine,
  linear: linearRate,
  constant: constantRate,
  restarts: (options) => cosineRestarts({ ...options, cycles: 4 }),
  wsd: (options) => warmupStableDecay({ ...options, decay: Math.ceil(options.steps / 5) }),
  polynomial: (options) => polynomialRate({ ...options, power: 2 }),
  inverseRoot: inverseRootRate,
  oneCycle,
};

/** Flags of commands that let the optimizer be chosen. */
export const OPTIMIZER_FLAGS: {
  readonly optimizer: Flag<string>;
  readonly schedule: Flag<string | null>;
  readonly warmup: Flag<number | null>;
  readonly "weight-decay": Flag<number | null>;
  readonly clip: Flag<number>;
  readonly group: Flag<readonly string[]>;
  readonly ema: Flag<number | null>;
  readonly accumulate: Flag<number>;
  readonly memory: Flag<string | null>;
  readonly "on-nan": Flag<"stop" | "skip" | "rollback">;
  readonly "label-smoothing": Flag<number>;
  readonly "z-loss": Flag<number>;
  readonly neftune: Flag<number>;
  readonly dropout: Flag<"config" | number>;
} = {
  ...topic("optimizer", {
    optimizer: oneOf(
      Object.keys(OPTIMIZERS),
      "what turns gradients into steps; adamW8bit keeps 2 bytes a weight, not 8; scheduleFree needs no schedule",
      "adamW",
    ),
    schedule: oneOf(
      Object.keys(SCHEDULES),
      "how the rate goes on after warm-up; cosine when absent, and constant for scheduleFree",
      null,
    ),
    warmup: whole("steps in which the rate rises; a twentieth of all when absent", null, 0),
    "weight-decay": fromZero(
      "decay of matrices, not of norms and biases; what is usual for the optimizer when absent",
      null,
    ),
    clip: fromZero("norm of all gradients above which they are scaled down; 0 for none", 1),
    group: texts(
      "GLOB:SETTINGS",
      'parameters with settings of their own, as in "*embed*:rate=0.1" (a factor) or "*.bias:decay=0.1"',
      [],
    ),
    ema: fromZero(
      "decay of an average of the weights, below 1, that is judged and saved in their place",
      null,
    ),
  }),
  ...topic("memory", {
    accumulate: whole("batches whose gradients are added up in a step, each with the memory of one", 1),
    memory: {
      ...text(
        "SIZE",
        'what training may take on the device besides the weights as loaded, as in "8 GiB": a step that needs more computes values again',
        null,
      ),
      read: readSize,
    },
  }),
  ...topic("training", {
    "on-nan": oneOf(
      ["stop", "skip", "rollback"],
      "what to do where a loss or gradient is not finite: end, leave that step out, or go back to the last good state",
      "stop",
    ),
    "label-smoothing": fromZero("share of each label that goes to all tokens alike, below 1", 0),
    "z-loss": fromZero(
      "factor of the squared log-sum-exp of scores, which keeps them from drifting; 1e-4 is usual",
      0,
    ),
    neftune: fromZero("alpha of noise on embeddings in training (NEFTune); 5 is usual", 0),
    dropout: dropoutFlag(),
  }),
};

function dropoutFlag(): Flag<"config" | number> {
  return {
    placeholder: "config|X",
    about:
      "what the model drops in training, besides its adapter: as config.json says, or all at this rate; 0 for none",
    fallback: "config",
    read: (value) => {
      const rate = value.trim() === "" ? NaN : Number(value);
      if (value === "config") return value;
      if (rate >= 0 && rate < 1) return rate;
      throw new InputError("config, or a number from 0 to below 1");
    },
  };
}

/** Values of {@link OPTIMIZER_FLAGS}. */
export type OptimizerFlags = Values<typeof OPTIMIZER_FLAGS>;

/** Flags of {@link OPTIMIZER_FLAGS} about the loss, not its optimizer. */
type LossFlag = "label-smoothing" | "z-loss" | "neftune" | "dropout";

/** Values of {@link OPTIMIZER_FLAGS}, of which those about the loss may be absent. */
export type TrainerFlags = Omit<OptimizerFlags, LossFlag> & Partial<Pick<OptimizerFlags, LossFlag>>;

/** {@link optimizerFlags} of a command with a loss of its own. */
export function trainerFlags(defaults: OptimizerDefaults): Omit<typeof OPTIMIZER_FLAGS, LossFlag> {
  const {
    "label-smoothing": _,
    "z-loss": __,
    neftune: ___,
    dropout: ____,
    ...flags
  } = optimizerFlags(defaults);
  return flags;
}

/** What a command does where its flags say nothing. */
export interface OptimizerDefaults {
  /** The schedule; cosine when absent. */
  readonly schedule?: string;
  /** Share of the steps in which the rate rises; a twentieth when absent. */
  readonly warmup?: number;
  /** The rate at the end, as a share of the largest; 0 when absent. */
  readonly floor?: number;
  /** What AdamW takes besides. */
  readonly adamW?: { readonly beta2: number; readonly weightDecay: number };
  /** Which parameters decay; matrices when absent. */
  readonly decayed?: "all";
}

/**
 * The flags of a command with defaults of its own.
 *
 * @param defaults The defaults
 * @returns {@link OPTIMIZER_FLAGS}, whose help says them
 */
export function optimizerFlags(
  { schedule = "cosine", warmup = 0.05, decayed }: OptimizerDefaults,
): typeof OPTIMIZER_FLAGS {
  const { schedule: way, warmup: rising, "weight-decay": decay } = OPTIMIZER_FLAGS;
  return {
    ...OPTIMIZER_FLAGS,
    schedule: { ...way, about: way.about.replace("cosine when absent", `${schedule} when absent`) },
    warmup: { ...rising, about: `steps in which the rate rises; ${100 * warmup} % of all when absent` },
    "weight-decay": {
      ...decay,
      about: decayed === "all"
        ? "decay of all parameters; what is usual for the optimizer when absent"
        : decay.about,
    },
  };
}

/**
 * Refuses flags that do not go together.
 *
 * @param flags The flags, steps, and how many times faster second matrices of LoRA learn
 * @throws {UsageError} When they do not
 */
export function checkOptimizer(
  flags: TrainerFlags & { readonly steps: number; readonly "lora-plus"?: number | null },
): void {
  if ((flags["lora-plus"] ?? null) !== null && (flags.optimizer !== "adamW" || flags.group.length > 0)) {
    throw new UsageError("--lora-plus makes groups of adamW: drop --optimizer and --group");
  }
  if (flags.warmup !== null && flags.warmup > flags.steps) {
    throw new UsageError(`--warmup must be at most --steps ${flags.steps}: got ${flags.warmup}`);
  }
  if (flags.ema !== null && flags.ema >= 1) throw new UsageError("--ema must be below 1");
  if ((flags["label-smoothing"] ?? 0) >= 1) throw new UsageError("--label-smoothing must be below 1");
  flags.group.forEach(groupOf);
}

/**
 * Refuses groups without a parameter, such as those of a misspelled name.
 *
 * @param flags The flags
 * @param paths Paths of the parameters that are trained
 * @throws {UsageError} When a group has none
 */
export function checkGroups({ group }: Pick<OptimizerFlags, "group">, paths: readonly string[]): void {
  for (const [pattern] of group.map(groupOf)) {
    if (paths.some(globs(pattern))) continue;
    throw new UsageError(
      `--group must match the path of a parameter that is trained: "${pattern}" matches none of ${paths.length}, which are ${
        paths.slice(0, 3).join(", ")
      } and so on; * stands for any characters`,
    );
  }
}

/** What flags ask of the loss. */
export function regularizationOf(flags: OptimizerFlags & { readonly seed: number }): Regularization {
  const { "label-smoothing": labelSmoothing, "z-loss": zLoss, neftune, dropout, seed } = flags;
  return { labelSmoothing, zLoss, neftune, dropout, seed };
}

/**
 * Makes the optimizer that flags ask for.
 *
 * @param flags The flags, the largest rate, steps, and how many times faster second matrices of LoRA learn
 * @param defaults What holds where flags say nothing
 * @returns Clipping, the optimizer, and the average of weights
 */
export function optimizerOf(
  flags: TrainerFlags & {
    readonly lr: number;
    readonly steps: number;
    readonly "lora-plus"?: number | null;
  },
  { schedule: usual = "cosine", warmup: share = 0.05, floor = 0, adamW: own, decayed }: OptimizerDefaults =
    {},
): Optimizer {
  const { optimizer, lr: peak, steps, clip, ema, "lora-plus": ratio = null, "weight-decay": weightDecay } =
    flags;
  const schedule = flags.schedule ?? (optimizer === "scheduleFree" ? "constant" : usual);
  const learningRate = SCHEDULES[schedule]({
    peak,
    warmup: flags.warmup ?? Math.ceil(share * steps),
    steps,
    ...schedule === usual && floor > 0 && { floor: floor * peak },
  });
  const settings: Settings = {
    learningRate,
    ...optimizer.startsWith("adamW") && own,
    ...weightDecay !== null && { weightDecay },
    ...decayed === undefined && { decayed: "matrices" },
  };
  return chain(
    ...clip === 0 ? [] : [clipByGlobalNorm(clip)],
    ratio === null
      ? parameterGroups(OPTIMIZERS[optimizer], settings, flags.group.map(groupOf))
      : loraPlus({ ...settings, ratio }),
    ...ema === null ? [] : [weightAverage(ema)],
  );
}

/**
 * The options of a training that flags ask for.
 *
 * @param flags As of {@link optimizerOf}
 * @param defaults What holds where flags say nothing
 * @returns Optimizer, accumulation, memory, and what is done where a number is not finite
 */
export function trainerOf(
  flags: Parameters<typeof optimizerOf>[0],
  defaults?: OptimizerDefaults,
):
  & Required<Pick<TrainingOptions, "optimizer" | "accumulate" | "nonFinite">>
  & Pick<TrainingOptions, "memory"> {
  return {
    optimizer: optimizerOf(flags, defaults),
    accumulate: flags.accumulate,
    memory: flags.memory ?? undefined,
    nonFinite: flags["on-nan"],
  };
}

/** Reads an amount of memory, so that one that is none is refused before anything is loaded. */
function readSize(value: string): string {
  if (/^\s*\d+(\.\d+)?\s*([KMGT]?i?B)?\s*$/i.test(value) && Number.parseFloat(value) > 0) return value;
  throw new InputError('a number of bytes, or one with a unit, such as "8 GiB"');
}

/** Reads a group: a glob, and settings behind its last colon. */
function groupOf(text: string): readonly [string, GroupSettings<Settings>] {
  const at = text.lastIndexOf(":"), glob = text.slice(0, at), settings: Record<string, unknown> = {};
  for (const part of at < 1 ? [""] : text.slice(at + 1).split(",")) {
    const [, name, value] = part.match(/^\s*(rate|decay)=(\d*\.?\d+(?:e-?\d+)?)\s*$/) ?? [];
    if (name === undefined) {
      throw new UsageError(
        `--group must be GLOB:rate=X or GLOB:decay=X, or both with a comma: got "${text}"`,
      );
    }
    if (name === "rate") settings.rate = Number(value);
    // Who names parameters asks for their decay, though they are norms or biases.
    else Object.assign(settings, { weightDecay: Number(value), decayed: "all" });
  }
  return [glob, settings];
}
