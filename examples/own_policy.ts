/**
 * Freeze policies from modules of one's own: what such a module throws becomes an error that says where.
 *
 * @module
 */

import { type AnySignal, type FreezePolicy, InputError } from "@firn/train";

/** A module, by the path that `--policy` has and by the URL that stacks have. */
export interface OwnModule {
  readonly path: string;
  readonly url: string;
}

/**
 * Makes the errors of a policy name the module, the policy, its part and the place, where a stack would show Firn's inside.
 *
 * @param policy A policy that a module exports
 * @param module The module
 * @returns The policy with the same parts; each throws an `InputError` whose cause is what the policy threw
 */
export function ownPolicy(policy: FreezePolicy, module: OwnModule): FreezePolicy {
  const { name } = policy, own = new Map<AnySignal, AnySignal>();
  const told = <T>(part: string, run: () => T): T => {
    try {
      return run();
    } catch (cause) {
      throw failed(module, { what: `"${part}" of its policy "${name}"`, cause });
    }
  };
  return {
    name,
    signals: policy.signals.map((signal) => {
      if (typeof signal !== "object" || typeof signal?.terms !== "function") return signal;
      const { name, needs, finite } = signal;
      const made: AnySignal = {
        name,
        needs,
        finite,
        terms: (of) => told(`signal ${name}`, () => signal.terms(of)),
      };
      own.set(made, signal);
      return made;
    }),
    ...(policy.measured && {
      // It may ask whether a signal is one of its own.
      measured: (signal, components) =>
        told("measured", () => policy.measured!(own.get(signal) ?? signal, components)),
    }),
    init: (components, run) => told("init", () => policy.init(components, run)),
    next: (state, look) => told("next", () => policy.next(state, look)),
    frozen: (state) => told("frozen", () => policy.frozen(state)),
    ...(policy.coming && { coming: (state) => told("coming", () => policy.coming!(state)) }),
    ...(policy.probed && { probed: (state) => told("probed", () => policy.probed!(state)) }),
    ...(policy.stopped && {
      stopped: (state, frozen) => told("stopped", () => policy.stopped!(state, frozen)),
    }),
    ...(policy.best && { best: (state) => told("best", () => policy.best!(state)) }),
    ...(policy.reason && { reason: (state, path) => told("reason", () => policy.reason!(state, path)) }),
  };
}

/**
 * The error of a module that throws.
 *
 * @param module The module
 * @param options What failed, and what it threw
 * @returns The error
 */
export function failed(
  { path, url }: OwnModule,
  { what, cause }: { readonly what: string; readonly cause: unknown },
): InputError {
  const thrown = cause instanceof Error ? String(cause) : Deno.inspect(cause);
  const stack = cause instanceof Error ? cause.stack ?? "" : "";
  // The innermost of its lines that has a place in the module: "at next (file:///a/own.ts:3:9)".
  const [, line, column] = stack.slice(stack.indexOf(url)).slice(url.length).match(/^:(\d+):(\d+)/) ?? [];
  const place = stack.includes(url) && line !== undefined ? ` at ${line}:${column}` : "";
  return new InputError(
    `Cannot use "${path}" as ${what} must not fail: it threw "${thrown}"${place}; mend the module`,
    {
      cause,
    },
  );
}
