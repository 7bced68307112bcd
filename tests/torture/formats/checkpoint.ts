/**
 * Checkpoints: the file, its record, and the states of policies.
 *
 * @module
 */

import { flatten, type FreezePolicy, type Gpu, readAll } from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import {
  anyOf,
  costAware,
  earlyStopping,
  gradES,
  hysteresis,
  prefix,
  randomSubset,
  rotate,
  snr,
  thaw,
} from "@firn/train/policies";
import { oneOf, positive, share, text, toggle, whole } from "../../../examples/flags.ts";
import { readRun, RUN_FLAGS } from "../../../examples/saved_flags.ts";
import { mutateBytes } from "../mutate_bytes.ts";
import { mutateJson } from "../mutate_json.ts";
import { joinFile, mutateBody, mutateHeader, splitFile } from "../mutate_safetensors.ts";
import { define, goOn, stateAt, STEPS } from "../small_training.ts";
import { type Context, demand, type Format } from "./types.ts";

const FILE = "checkpoint.safetensors";

async function makeWith({ folder, gpu }: Context, policy: FreezePolicy | undefined): Promise<void> {
  const device = await gpu();
  using training = define(device, policy);
  await saveCheckpoint(device, await stateAt(training, 5), { path: `${folder}/${FILE}`, extra: EXTRA });
}

async function loadWith({ folder, gpu }: Context, policy: FreezePolicy | undefined): Promise<void> {
  const device: Gpu = await gpu();
  using training = define(device, policy);
  const checkpoint = await loadCheckpoint(`${folder}/${FILE}`);
  const state = await goOn(training, await training.resume(checkpoint), STEPS);
  const components = training.components().map(({ path }) => path);
  const stray = state.frozen.find((path) => components.length > 0 && !components.includes(path));
  demand(stray === undefined, `"${stray}" is frozen`);
  const values = await readAll(device, [...flatten(state.params).values()]);
  demand(values.every((one) => [...one].every(Number.isFinite)), "parameters that are not finite");
}

/** Damages the record that stands in the header as text. Whoever changes it can leave out its checksum too. */
function mutateRecord(bytes: Uint8Array, edit: (record: string) => string): Uint8Array {
  const { header, body } = splitFile(bytes), { __metadata__: metadata, ...tensors } = JSON.parse(header);
  const { checksum: _, ...record } = JSON.parse(metadata.firn);
  const firn = edit(JSON.stringify(record));
  return joinFile(JSON.stringify({ __metadata__: { ...metadata, firn }, ...tensors }), body);
}

const plain = { file: FILE, make: (context: Context) => makeWith(context, snr()) };
const load = (context: Context): Promise<void> => loadWith(context, snr());

/** Flags of a command that goes on with runs. */
const TABLE = {
  model: text("DIR", "a folder", "small"),
  steps: whole("steps", 120),
  lr: positive("rate", null),
  alpha: share("a share", 0.5),
  precision: oneOf(["f32", "f16"], "how values are stored", "f32"),
  policy: text("NAME", "what freezes", "gradES"),
  out: text("DIR", "a folder", null),
  "no-tune": toggle("a switch"),
  ...RUN_FLAGS,
};

const EXTRA = {
  model: "a",
  steps: 9,
  lr: 0.1,
  alpha: 0.2,
  precision: "f16",
  policy: "snr",
  command: "test",
  policyHash: null,
};

/** Goes on with a run whose flags stand in its checkpoint. */
async function loadFlags({ folder }: Context): Promise<void> {
  const { values } = await readRun(["--resume", folder], {
    command: "test",
    table: TABLE,
    rate: "lr",
    beside: ["model"],
  });
  const { steps, lr, alpha, precision } = values,
    out = Object.keys(values).find((name) => !Object.hasOwn(TABLE, name));
  demand(out === undefined, `the flag ${out}`);
  demand(Number.isSafeInteger(steps) && steps >= 1, `steps ${steps}`);
  demand(lr === null || lr > 0 && lr < Infinity, `lr ${lr}`);
  demand(alpha >= 0 && alpha <= 1, `alpha ${alpha}`);
  demand(["f32", "f16"].includes(precision), `precision ${precision}`);
  for (const name of ["model", "policy", "out"] as const) {
    demand(typeof values[name] === "string", `${name} ${values[name]}`);
  }
}

const POLICIES: Readonly<Record<string, () => FreezePolicy>> = {
  gradES: () => gradES({ tau: 0.1, alpha: 0.2, patience: 2 }),
  snr: () => snr(),
  prefix: () => prefix(),
  rotate: () => rotate({ every: 2 }),
  earlyStopping: () => earlyStopping(),
  costAware: () => costAware({ targetSpeedup: 1.2 }),
  thaw: () => thaw(snr(), { every: 2, readings: 1 }),
  others: () =>
    anyOf(randomSubset({ share: 0.5, every: 3, seed: 1 }), hysteresis("gradNorm", { low: 0.05, high: 1 })),
};

/** The formats of checkpoints. */
export const checkpoint: readonly Format[] = [
  {
    name: "checkpoint file",
    count: 90,
    ...plain,
    mutate: (bytes, draw) => [mutateHeader, mutateBody, mutateBytes][draw(3)](bytes, draw),
    load,
  },
  {
    name: "checkpoint record",
    count: 100,
    ...plain,
    mutate: (bytes, draw) => mutateRecord(bytes, (record) => mutateJson(record, draw)),
    load,
  },
  {
    name: "flags of a run",
    count: 80,
    ...plain,
    mutate: (bytes, draw) => mutateRecord(bytes, (record) => mutateJson(record, draw, ["extra"])),
    load: loadFlags,
  },
  ...Object.entries(POLICIES).map(([name, policy]): Format => ({
    name: `state of ${name}`,
    count: 30,
    file: FILE,
    make: (context) => makeWith(context, policy()),
    mutate: (bytes, draw) => mutateRecord(bytes, (record) => mutateJson(record, draw, ["policy"])),
    load: (context) => loadWith(context, policy()),
  })),
];
