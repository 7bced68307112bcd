/**
 * What a command line of `finetune` asks for: the folder, the model, the training.
 *
 * @module
 */

import {
  defineTraining,
  flatten,
  type FreezePolicy,
  type Gpu,
  InputError,
  type Loss,
  type Model,
  nextTokenLoss,
  type TokenBatch,
  type Training,
} from "@firn/train";
import { loadTokenizer, type Tokenizer } from "@firn/train/data";
import { companionFiles } from "@firn/train/hub";
import { counted } from "@firn/train/report";
import { chooseBatch, tokensOf } from "./batch_flags.ts";
import { today } from "./data_flags.ts";
import { averagedLooks, type ExchangeFlags, exchangeOf } from "./exchange_flags.ts";
import { type FLAGS, type Flags, type Planned, type Sized, STEPS } from "./finetune_flags.ts";
import { recordedOf, trainedPart } from "./freezing_flags.ts";
import { locateModel } from "./hub.ts";
import { classArchitecture } from "./classify.ts";
import { loadShown, type LoadShownOptions } from "./load_model.ts";
import { adaptModel, storageOf } from "./lora_flags.ts";
import { licenseOf, rateOf } from "./model_card.ts";
import { checkGroups, checkOptimizer, regularizationOf, trainerOf } from "./optimizer_flags.ts";
import { checkOutput, nextFree } from "./output.ts";
import { policyOf, validateEvery } from "./policies.ts";
import { print } from "./print.ts";
import type { Joined } from "./ranks.ts";
import type { RunOptions } from "./run.ts";
import type { RunRequest } from "./saved_flags.ts";
import { pairObjective } from "./objective_flags.ts";
import { openData, type OpenedData } from "./open_data.ts";
import type { TrainData } from "./train_data.ts";

/** What is known before a device is opened. */
export interface Plan<F = Flags> {
  readonly flags: F;
  /** Folder of the model. */
  readonly folder: string;
  /** Why the learning rate is what it is. */
  readonly why: string;
  readonly policy: FreezePolicy | undefined;
  readonly policyHash: string | null;
  readonly out: string;
  /** This process among those that train together; null for this one alone. */
  readonly joined: Joined | null;
  readonly opened: OpenedData;
}

/** Pairs are opened where they are read. */
const NO_DATA: OpenedData = { data: { parts: [] }, validation: null };

/** Refuses what can be seen to be wrong from the folders and the text alone. */
export async function planOf(
  { values, checkpoint, newRate, policyHash }: RunRequest<typeof FLAGS>,
  joined: Joined | null,
): Promise<Plan> {
  const { name, folder } = await locateModel(values.model);
  const { rate, why } = await rateOf(folder, values.lr);
  const flags: Flags = { ...values, model: name, lr: rate, date: values.date ?? today() };
  const { policy, hash } = await policyOf(flags.policy, {
    ...flags,
    record: recordedOf(flags),
    hash: policyHash,
  });
  const resumed = checkpoint !== null, asked = flags.out ?? await nextFree("out/finetune");
  const out = await joined?.common(asked) ?? asked;
  if (!joined?.follows) await checkOutput(out, { resumed, model: folder });
  if (resumed) print(`resume      ${out}: reads ${flags.model}, ${flags.data.join(", ")}`);
  return {
    flags,
    folder,
    why: resumed && !newRate ? "that of the run" : why,
    policy,
    policyHash: hash,
    out,
    joined,
    opened: pairObjective(flags) === null ? await openData(flags) : NO_DATA,
  };
}

/** The model that is trained, and what goes with it. */
export interface Subject {
  readonly base: Model;
  readonly tokenizer: Tokenizer;
  /** Files that go along into the folder of the trained model. */
  readonly files: ReadonlyMap<string, Uint8Array>;
}

/** The head of a reward: one output. */
async function headFor(folder: string, { reward, seed }: Flags): Promise<LoadShownOptions> {
  return reward ? { architecture: await classArchitecture(folder), labels: ["reward"], seed } : {};
}

/** Loads the model, with the adapter and the head that flags ask for. */
export async function loadSubject(gpu: Gpu, { flags, folder }: Plan): Promise<Subject> {
  const loaded = await loadShown(gpu, folder, { storage: storageOf(flags), ...await headFor(folder, flags) });
  const base = trainedPart(
    await adaptModel(gpu, loaded, { flags, seed: flags.seed, name: flags.model }),
    flags,
  );
  checkGroups(flags, [...flatten(base.params).keys()].filter((path) => base.trainable?.(path) ?? true));
  const tokenizer = await loadTokenizer(folder, { model: base });
  if (flags.length > base.maxLength) {
    throw new InputError(
      `Cannot train on ${flags.length} tokens as "${flags.model}" allows ${base.maxLength}: lower --length`,
    );
  }
  return { base, tokenizer, files: await companionFiles(folder) };
}

/** The plan with the size of batches that was asked for, or that fits. */
export function withBatch(
  gpu: Gpu,
  { plan, base, available }: {
    readonly plan: Plan;
    readonly base: Model;
    /** Windows or rows that there are, where they are known. */
    readonly available?: number;
  },
): Plan<Sized> {
  const { flags } = plan, params = base.params;
  const chosen = chooseBatch<object, TokenBatch>(flags, {
    params,
    available,
    ranks: plan.joined?.ranks.size,
    batchOf: (size) => tokensOf(size, flags),
    // How many steps there are does not count for memory.
    trainingOf: (accumulate) =>
      trainingOf(gpu, {
        plan: { ...plan, flags: { ...flags, steps: flags.steps ?? STEPS, accumulate } },
        base,
      }),
  });
  return { ...plan, flags: { ...flags, ...chosen } };
}

/**
 * The plan with the number of steps, once it is known how many an epoch has.
 *
 * @param plan The plan
 * @param data What the model is trained on
 * @returns The plan
 * @throws {InputError} When only reading all data would tell what an epoch is
 * @throws {UsageError} When the warm-up is longer
 */
export function withSteps(
  { flags, ...plan }: Plan<Sized>,
  { epoch }: Pick<TrainData, "epoch">,
): Plan<Planned> {
  if (flags.epochs === null) return { ...plan, flags: { ...flags, steps: flags.steps ?? STEPS } };
  if (epoch === null) {
    throw new InputError(
      `Cannot tell how many steps make ${counted(flags.epochs, "epoch")} of "${
        flags.data.join(", ")
      }" as the rows must fit a buffer to be counted: there are more; give --steps`,
    );
  }
  const steps = Math.ceil(flags.epochs * epoch / flags.accumulate);
  checkOptimizer({ ...flags, steps });
  return { ...plan, flags: { ...flags, steps, epochs: null } };
}

/** Steps between looks. */
export function lookEvery(flags: ExchangeFlags & { readonly steps: number }): number {
  return averagedLooks(flags, Math.min(10, flags.steps));
}

/** What the log of a run says of its plan. */
export async function runOf(
  { flags, folder, out, policy, joined }: Plan<Planned>,
): Promise<Pick<RunOptions, "out" | "model" | "lookEvery" | "observe" | "threshold" | "config" | "joined">> {
  return {
    out,
    joined,
    model: folder,
    lookEvery: lookEvery(flags),
    observe: flags,
    ...flags.policy === "gradES" && flags.tau !== null &&
      { threshold: { signal: flags.metric, tau: flags.tau } },
    config: {
      ...flags,
      data: flags.data.join(", "),
      policy: policy?.name ?? "none",
      license: await licenseOf(folder),
    },
  };
}

/** The training that a plan describes. */
export function trainingOf(
  gpu: Gpu,
  { plan: { flags, policy, joined }, base, data, loss = nextTokenLoss(base, regularizationOf(flags)) }: {
    readonly plan: Pick<Plan<Flags & { readonly steps: number }>, "flags" | "policy" | "joined">;
    readonly base: Model;
    /** Absent where only memory is planned. */
    readonly data?: Pick<TrainData, "batches" | "watched">;
    /** The loss; that of the next token when absent. */
    readonly loss?: Loss<object, TokenBatch>;
  },
): Training<object, TokenBatch> {
  return defineTraining(gpu, loss, {
    ...trainerOf(flags),
    policy,
    steps: flags.steps,
    lookEvery: lookEvery(flags),
    ranks: joined?.ranks,
    exchange: exchangeOf(flags),
    precision: flags.precision,
    cachePrefix: flags["cache-prefix"],
    validation: data?.watched && { batches: data.watched, every: validateEvery(flags)! },
    data: data?.batches.fingerprint,
  });
}
