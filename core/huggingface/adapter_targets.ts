/**
 * The targets of a new adapter: from what a user asks for to the names that PEFT reads.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import type { Model } from "../models/model.ts";
import type { AdapterConfig } from "./adapter_config.ts";
import { ALL_LINEAR, allLinear, type Module, modulesOf, targeting } from "./adapter_modules.ts";

/** Which modules get pairs: names, ends of names or globs; one expression; or all linear layers but the head. */
export type Targets = string | readonly string[];

/**
 * The `target_modules` of PEFT for what a user asks for.
 *
 * @param model The model
 * @param options What is asked for, and whether it is asked for in some layers alone
 * @returns An expression and a plain list as they are; for globs, and for all linear layers of some layers, their names
 * @throws {InputError} When an entry of a list matches no module, or layers are chosen beside an expression
 */
export function targetNames<I extends object>(
  model: Model<object, I>,
  { targets, inLayers }: { readonly targets: Targets; readonly inLayers: boolean },
): Targets {
  const modules = [...modulesOf(model).values()];
  if (typeof targets === "string") {
    if (!inLayers) return targets;
    if (targets.toLowerCase() !== ALL_LINEAR) {
      throw new InputError(
        `Cannot make an adapter as "layers" are chosen for targets that are a list: they are an expression, which can say it`,
      );
    }
    return shortest(modules, new Set(modules.filter(allLinear(model)).map(({ name }) => name)));
  }
  const chosen = new Set<string>();
  for (const target of targets) {
    const holds = target.includes("*") ? glob(target) : ends(target);
    const found = modules.filter(({ names, path }) => [...names, path].some(holds));
    if (found.length === 0) {
      throw new InputError(
        `Cannot adapt "${target}" as the model must have it: it has ${endsOf(modules).join(", ")}`,
      );
    }
    for (const { name } of found) chosen.add(name);
  }
  return targets.some((target) => target.includes("*")) ? shortest(modules, chosen) : targets;
}

/**
 * The modules that a configuration adapts, each of a kind that takes a pair.
 *
 * @param model The model
 * @param config The configuration
 * @returns The modules
 * @throws {InputError} When there is none, or one takes no pair
 */
export function targetModules<I extends object>(model: Model<object, I>, config: AdapterConfig): Module[] {
  const modules = [...modulesOf(model).values()], found = modules.filter(targeting(model, config));
  if (found.length === 0) {
    throw new InputError(
      `Cannot make an adapter as "targets" must match modules of the model: they match none of ${
        endsOf(modules).join(", ")
      }`,
    );
  }
  const other = found.find(({ kind }) => kind === "other");
  if (other === undefined) return found;
  throw new InputError(
    `Cannot adapt "${other.name}" as pairs are for linear layers and tables: it is neither; leave it out of "targets"`,
  );
}

/**
 * A list of names, where `all-linear` would depend on who reads it.
 *
 * @param model The model
 * @param options The targets, and the modules that they match
 * @returns The targets as PEFT saves them
 */
export function savedTargets<I extends object>(
  model: Model<object, I>,
  { targets, found }: { readonly targets: Targets; readonly found: readonly Module[] },
): Targets {
  if (typeof targets !== "string" || targets.toLowerCase() !== ALL_LINEAR) return targets;
  return shortest([...modulesOf(model).values()], new Set(found.map(({ name }) => name)));
}

/** The last parts of names where they match no other module, else whole names. */
function shortest(modules: readonly Module[], chosen: ReadonlySet<string>): string[] {
  const all = modules.filter(({ name }) => chosen.has(name)).flatMap(({ names }) => names);
  const ends = new Set(all.map(lastOf));
  const exact = modules.every(({ name, names }) =>
    names.some((one) => ends.has(lastOf(one))) === chosen.has(name)
  );
  return exact ? [...ends] : all;
}

function endsOf(modules: readonly Module[]): string[] {
  const taken = modules.filter(({ kind }) => kind !== "other");
  return [...new Set(taken.flatMap(({ names }) => names.map(lastOf)))];
}

function lastOf(name: string): string {
  return name.slice(name.lastIndexOf(".") + 1);
}

function ends(target: string): (name: string) => boolean {
  return (name) => name === target || name.endsWith(`.${target}`);
}

/** A glob over whole names, in which `*` stands for any characters, dots included. */
function glob(pattern: string): (name: string) => boolean {
  const [first, ...rest] = pattern.split("*"), last = rest.pop()!;
  return (name) => {
    if (!name.startsWith(first) || !name.endsWith(last) || name.length < first.length + last.length) {
      return false;
    }
    let at = first.length;
    for (const part of rest) {
      at = name.indexOf(part, at);
      if (at < 0) return false;
      at += part.length;
    }
    return at <= name.length - last.length;
  };
}
