/**
 * Freeze policies by the names that `--policy` takes.
 *
 * @module
 */

import { pathToFileURL } from "node:url";
import { type FreezePolicy, InputError, NotFoundError } from "@firn/train";
import { hostFileSystem } from "@firn/train/data";
import {
  adaGradSelect,
  anyOf,
  auto,
  bottomFreeze,
  costAware,
  diminishingReturns,
  earlyStopping,
  gradES,
  type GradESOptions,
  gradientProbe,
  prefix,
  record,
  type Signal,
  snr,
  spectralStop,
  topFreeze,
} from "@firn/train/policies";
import { type Flag, meant, text, UsageError, whole } from "./flags.ts";
import { failed, ownPolicy } from "./own_policy.ts";

/** Those that need no number which depends on the model. */
const POLICIES: ReadonlyMap<string, () => FreezePolicy | undefined> = new Map<
  string,
  () => FreezePolicy | undefined
>([
  ["snr", () => snr()],
  ["prefix", () => prefix()],
  ["costAware", () => costAware({ targetSpeedup: 1.3 })],
  ["auto", () => auto()],
  ["bottomFreeze", () => bottomFreeze(0.5)],
  ["topFreeze", () => topFreeze(0.5)],
  ["gradientProbe", () => gradientProbe()],
  ["adaGradSelect", () => adaGradSelect({ every: 10 })],
  ["diminishingReturns", () => diminishingReturns()],
  ["spectralStop", () => spectralStop()],
  ["earlyStopping", () => earlyStopping()],
  ["none", () => undefined],
]);

/** The names, for the help. */
export const POLICY_NAMES: string = `gradES, ${[...POLICIES.keys()].join(", ")}`;

/** The flag about the policy. */
export const POLICY: Flag<string> = text(
  "NAME|FILE",
  `${POLICY_NAMES}, or a module of this machine whose default export is a freeze policy`,
  "gradES",
);

/** A policy and, when a module made it, the hash of the text of that module. */
export interface LoadedPolicy {
  readonly policy: FreezePolicy | undefined;
  readonly hash: string | null;
}

/**
 * Says whether a value of `--policy` names a module, not a policy of this table.
 *
 * @param name The value
 * @returns Whether it must be a path
 */
export function isModule(name: string): boolean {
  return name !== "gradES" && !POLICIES.has(name);
}

/** What a policy by its name is made with. */
export interface PolicyOptions extends Omit<GradESOptions, "tau"> {
  /** Threshold of gradES; null or absent to find it. */
  readonly tau?: GradESOptions["tau"] | null;
  /** Signals to measure besides; none when absent. */
  readonly record?: readonly string[];
  /** The SHA-256 that a module must have, in a run that is resumed. */
  readonly hash?: string | null;
}

/**
 * Makes a policy.
 *
 * @param name One of {@link POLICY_NAMES}, or the path of a module whose default export is a policy
 * @param options The options of gradES, signals to measure besides, and the hash that a module must have
 * @returns The policy, undefined for `none`, and the SHA-256 of the module
 * @throws {UsageError} When there is no such name, or it is the address of a module elsewhere
 * @throws {NotFoundError} When there is no such module
 * @throws {FileError} When it cannot be read
 * @throws {InputError} When the module throws or exports no policy, or has another hash; then nothing of it has run
 */
export async function policyOf(
  name: string,
  { record: recorded = [], ...options }: PolicyOptions,
): Promise<LoadedPolicy> {
  const { policy, hash } = await bareOf(name, options);
  if (recorded.length === 0) return { policy, hash };
  const recording = record(...recorded as Signal[]);
  return { policy: policy === undefined ? recording : anyOf(policy, recording), hash };
}

/** The policy of a name or a module. */
async function bareOf(
  name: string,
  { hash: expected = null, tau, ...options }: Omit<PolicyOptions, "record">,
): Promise<LoadedPolicy> {
  if (name === "gradES") return { policy: gradES({ ...options, tau: tau ?? undefined }), hash: null };
  const named = POLICIES.get(name);
  if (named !== undefined) return { policy: named(), hash: null };
  checkPolicyName(name);
  const hash = await hashOf(name);
  if (expected !== null && hash !== expected) {
    throw new InputError(
      `Cannot resume with "${name}" as the policy must be the module that the run began with: ` +
        `its SHA-256 is ${hash}, that was ${expected}; take the module back to that text, or start another run`,
    );
  }
  const made = await importDefault(name, "--policy");
  if (isPolicy(made)) return { policy: ownPolicy(made, { path: name, url: fileUrl(name).href }), hash };
  throw new InputError(
    `Cannot use "${name}" as its default export must be a freeze policy: got ${typeof made}; make one with definePolicy`,
  );
}

/**
 * Refuses what is neither a name nor a path of a module.
 *
 * @param name A value of `--policy`
 * @throws {UsageError} When there is no such name, or it is the address of a module elsewhere
 */
export function checkPolicyName(name: string): void {
  if (!isModule(name)) return;
  // A scheme of one letter is a drive of Windows.
  if (/^[a-z][a-z0-9+.-]+:/i.test(name)) {
    throw new UsageError(
      `--policy takes a name or a path, no address: got "${
        name.slice(0, 60)
      }"; save the module as a file first`,
    );
  }
  if (!/\.m?[jt]s$/.test(name)) {
    throw new UsageError(
      `--policy must be one of ${POLICY_NAMES}, or a module: got "${name.slice(0, 200)}"` +
        meant(name.slice(0, 200), POLICY_NAMES.split(", ")),
    );
  }
}

async function hashOf(path: string): Promise<string> {
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = await hostFileSystem().read(path);
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
    throw new NotFoundError(`Cannot use "${path}" as there is no such module: check --policy`, {
      cause: error,
    });
  }
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

/**
 * What a module exports by default.
 *
 * @param path Its path, from the current folder
 * @param flag The flag that named it
 * @returns The export
 * @throws {InputError} When there is no such module, it cannot be parsed, or it throws
 */
async function importDefault(path: string, flag: string): Promise<unknown> {
  const url = fileUrl(path).href;
  try {
    return (await import(url)).default;
  } catch (cause) {
    const { code, message } = (cause ?? {}) as { readonly code?: string; readonly message?: string };
    if (code !== "ERR_MODULE_NOT_FOUND") throw failed({ path, url }, { what: "the module", cause });
    throw new InputError(`Cannot use "${path}" as it must be a module: ${message} Check ${flag}`, { cause });
  }
}

/**
 * Makes the URL of a file. Characters that mean something in a URL, such as `#`, `%` and `?`, stay part of the name.
 *
 * @param path The path, from the current folder
 * @param options Whether it is one of Windows
 * @returns The URL
 */
export function fileUrl(
  path: string,
  { windows = Deno.build.os === "windows" }: { readonly windows?: boolean } = {},
): URL {
  return pathToFileURL(path, { windows });
}

/** Whether something is a freeze policy, as far as one can see. */
function isPolicy(made: unknown): made is FreezePolicy {
  const policy = made as Partial<FreezePolicy> | null | undefined;
  return typeof policy?.name === "string" && Array.isArray(policy.signals) &&
    [policy.init, policy.next, policy.frozen].every((part) => typeof part === "function");
}

/** The flag about validation. */
export const VALIDATE: Flag<number | null> = whole(
  "steps between validations on a part of the training data; a twentieth of all for earlyStopping, else none",
  null,
);

/**
 * Decides how often to validate.
 *
 * @param flags The policy's name, the planned steps and the value of {@link VALIDATE}
 * @returns Steps from one validation to the next; null for none
 */
export function validateEvery(
  { policy, validate, steps }: {
    readonly policy: string;
    readonly validate: number | null;
    readonly steps: number;
  },
): number | null {
  return validate ?? (policy === "earlyStopping" ? Math.ceil(steps / 20) : null);
}

/**
 * Refuses to keep the best state of a run that is not validated.
 *
 * @param flags Whether it is kept, the policy's name, and the value of {@link VALIDATE}
 * @throws {UsageError} When nothing says which state is best
 */
export function checkKeepBest(
  { "keep-best": keeps, policy, validate }: {
    readonly "keep-best": boolean;
    readonly policy?: string;
    readonly validate?: number | null;
  },
): void {
  if (!keeps || policy === "earlyStopping" || (validate ?? null) !== null) return;
  throw new UsageError(
    `--keep-best needs validations, which tell what is best: ${
      validate === undefined ? "take --evaluate-every N --best loss in its place" : "add --validate N"
    }`,
  );
}
