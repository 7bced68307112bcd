/**
 * Different optimizers for different parameters.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import type { Tensor } from "../tensor.ts";
import type { Leaves, Path } from "../tree.ts";
import { globs, type PathPattern } from "./glob.ts";
import { type Moment, momentPath, type Optimizer } from "./optimizer.ts";

/** Parameters by path, and the optimizer that updates them. */
export type ParameterGroup = readonly [pattern: PathPattern, optimizer: Optimizer];

/**
 * Gives each parameter the optimizer of the first group that matches its path, as `optax.partition` does.
 *
 * A group with a learning rate or weight decay of its own is an optimizer with that setting. What all parameters share,
 * such as clipping by the global norm, is chained before the partition; inside a group it sees that group alone.
 *
 * @param groups Patterns and optimizers; the last pattern is `"*"` for all others
 * @returns One optimizer; its learning rate is that of the last group that has one. Its `init` throws an `InputError` when
 * a parameter matches no group
 * @throws {InputError} When there is no group
 * @throws {InputError} When two groups keep moments of one name but of different meaning or type
 *
 * @example No weight decay for norms and biases
 * ```ts
 * import { assertAlmostEquals, assertEquals } from "@std/assert";
 * import { adamW, openGpu, read, tensor } from "@firn/train";
 * import { partition } from "@firn/train/optim";
 *
 * const learningRate = 0.1;
 * const optimizer = partition([
 *   [["*norm*", "*.bias"], adamW({ learningRate, weightDecay: 0 })],
 *   ["*", adamW({ learningRate, weightDecay: 0.5 })],
 * ]);
 *
 * await using gpu = await openGpu();
 * const params = new Map([["norm.weight", tensor([1])], ["proj.weight", tensor([1])]]);
 * const grads = new Map([["norm.weight", tensor([5])], ["proj.weight", tensor([5])]]);
 * const { updates } = optimizer.next(optimizer.init(params), grads, params);
 * assertEquals([...updates.keys()], ["norm.weight", "proj.weight"]);
 * assertAlmostEquals((await read(gpu, updates.get("norm.weight")!))[0], -0.1, 1e-6);
 * assertAlmostEquals((await read(gpu, updates.get("proj.weight")!))[0], -0.15, 1e-6);
 * ```
 */
export function partition(groups: readonly ParameterGroup[]): Optimizer {
  if (groups.length === 0) {
    throw new InputError(
      'Cannot partition parameters as there must be a group: give at least ["*", optimizer]',
    );
  }
  const parts = groups.map(([pattern, optimizer], i): Part => ({
    patterns: typeof pattern === "string" ? [pattern] : pattern,
    optimizer,
    prefix: `group${i}/`,
  }));
  const name = `partition(${
    parts.map(({ patterns, optimizer }) => `${JSON.stringify(patterns)}: ${optimizer.name}`).join(", ")
  })`;
  const partOf = matcher(parts, name);
  /** The entries of a map of parameters, or a list of their paths, that belong to one part. */
  const ofPart = (part: Part, tree: Leaves): Leaves => new Map([...tree].filter(([p]) => partOf(p) === part));
  const pathsOf = (part: Part, paths?: readonly Path[]): readonly Path[] | undefined =>
    paths?.filter((path) => partOf(path) === part);
  return {
    name,
    learningRate: parts.findLast(({ optimizer }) => optimizer.learningRate !== undefined)?.optimizer
      .learningRate,
    moments: momentsOf(parts, partOf),
    init(params, trainable) {
      const state = new Map<Path, Tensor>();
      for (const part of parts) {
        const own = ofPart(part, params), names = momentPaths(part, own.keys());
        for (const [path, value] of part.optimizer.init(own, pathsOf(part, trainable))) {
          state.set(names.has(path) ? path : part.prefix + path, value);
        }
      }
      return state;
    },
    next(state, grads, params, trainable) {
      const updates = new Map<Path, Tensor>(), nextState = new Map<Path, Tensor>();
      const readings = new Map<Path, Tensor>();
      for (const part of parts) {
        const own = ofPart(part, grads), names = momentPaths(part, own.keys());
        const step = own.size === 0
          ? { updates: own, state: stateOf(part, state, names) }
          : part.optimizer.next(
            stateOf(part, state, names),
            own,
            ofPart(part, params),
            pathsOf(part, trainable),
          );
        for (const [path, value] of step.updates) updates.set(path, value);
        for (const [path, value] of step.readings ?? []) readings.set(path, value);
        for (const [path, value] of step.state) {
          nextState.set(names.has(path) ? path : part.prefix + path, value);
        }
      }
      return {
        updates: new Map([...grads.keys()].map((path) => [path, updates.get(path)!])),
        state: nextState,
        readings,
      };
    },
    ...(parts.some(({ optimizer }) => optimizer.evaluated !== undefined) && {
      evaluated: (state: Leaves, params: Leaves): Leaves =>
        new Map(
          parts.flatMap((part) => {
            const own = ofPart(part, params), names = momentPaths(part, own.keys());
            return [...part.optimizer.evaluated?.(stateOf(part, state, names), own) ?? []];
          }),
        ),
    }),
  };
}

/** A group, and the prefix of its shared state. */
interface Part {
  readonly patterns: readonly string[];
  readonly optimizer: Optimizer;
  readonly prefix: string;
}

/** From a path to the first part that matches it. */
function matcher(parts: readonly Part[], name: string): (path: Path) => Part {
  const tests = parts.map(({ patterns }) => globs(patterns));
  const known = new Map<Path, Part>();
  return (path) => {
    const found = known.get(path) ?? parts.find((_, i) => tests[i](path));
    if (found === undefined) {
      throw new InputError(
        `Cannot train "${path}" by ${name} as no group matches it: end with the group "*"`,
      );
    }
    known.set(path, found);
    return found;
  };
}

/** The moments of all parts, each name once. A moment that not all parts keep alike asks for the part of a path. */
function momentsOf(parts: readonly Part[], partOf: (path: Path) => Part): readonly Moment[] {
  const byName = new Map<string, readonly Moment[]>();
  for (const { optimizer } of parts) {
    for (const moment of optimizer.moments) {
      const known = byName.get(moment.name) ?? [moment];
      if (!FIXED.every((key) => known[0][key] === moment[key])) {
        throw new InputError(
          `Cannot partition by "${optimizer.name}" as another group keeps "${moment.name}" with another meaning or type`,
        );
      }
      byName.set(moment.name, [...known, moment]);
    }
  }
  return [...byName].map(([name, [first, ...others]]): Moment => {
    if (others.length === parts.length && others.every(({ shape }) => shape === first.shape)) return first;
    const complete = others.length === parts.length &&
      others.every((moment) => moment.complete ?? moment.shape === undefined);
    return {
      ...first,
      complete,
      shape(parameter, path) {
        const own = partOf(path).optimizer.moments.find((moment) => moment.name === name);
        return own === undefined ? null : own.shape === undefined ? parameter : own.shape(parameter, path);
      },
    };
  });
}

/** What the moments of one name have in common. */
const FIXED = ["meaning", "dtype", "offset"] as const;

function momentPaths({ optimizer }: Part, params: Iterable<Path>): ReadonlySet<Path> {
  return new Set([...params].flatMap((path) => optimizer.moments.map((moment) => momentPath(moment, path))));
}

/** The state of a part, under the names that its optimizer gave. */
function stateOf({ prefix }: Part, state: Leaves, moments: ReadonlySet<Path>): Leaves {
  return new Map(
    [...state].flatMap(([path, value]) => {
      if (moments.has(path)) return [[path, value] as const];
      return path.startsWith(prefix) ? [[path.slice(prefix.length), value] as const] : [];
    }),
  );
}
