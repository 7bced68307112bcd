/**
 * The imports of a file, and the circles that imports make.
 *
 * @module
 */

import { blank, type Offence, print, ROOT, type Source } from "./source.ts";

/** One import, export or `import("...")` of a file. */
export interface Import {
  readonly specifier: string;
  /** True of `import type` and `export type`, which leave nothing at run time. */
  readonly type: boolean;
  /** Where the statement begins, counted from 1. */
  readonly line: number;
  /** The statement on one line. */
  readonly text: string;
}

const STATEMENT = /^(?:import|export) (type )?(?:(?:[\w*, ]|\{[^}]*\})+ from )?"([^"]+)";?/gm;
const REFERENCE = /^\/\/\/ <reference (types)="([^"]+)".*/gm;
const CALL = /.*\bimport\((\s*)"([^"]+)".*/g;

/** Every import of a text: statements, `import("...")` in code and in types, and references to types. */
export function importsOf(text: string): readonly Import[] {
  const code = blank(text);
  const found = (within: string, pattern: RegExp) =>
    [...within.matchAll(pattern)].map((match) => ({
      specifier: match[2],
      type: /^(type|types)/.test(match[1] ?? ""),
      line: within.slice(0, match.index).split("\n").length,
      text: match[0].replace(/\s+/g, " ").trim(),
    }));
  return [...found(code, STATEMENT), ...found(text, REFERENCE), ...found(code, CALL)];
}

/** Where an import leads: a path from the root, or the specifier where that is a package. */
export function target(path: string, specifier: string): string {
  if (!specifier.startsWith(".")) return specifier;
  return new URL(specifier, new URL(path, ROOT)).href.slice(ROOT.href.length);
}

/** One import from a file of the sources to another. */
export interface Edge extends Offence {
  readonly to: string;
}

/** Every import that leads from a source to a file of the repository. */
export function edges(sources: readonly Source[]): Edge[] {
  return sources.flatMap(({ path, text }) =>
    importsOf(text).filter(({ specifier }) => specifier.startsWith("."))
      .map(({ specifier, line, text }) => ({ path, line, text, to: target(path, specifier) }))
  );
}

/** For each import that lies on a circle, the shortest circle through it, which begins with it. */
export function circles(sources: readonly Source[]): (readonly Edge[])[] {
  const from = Map.groupBy(edges(sources), ({ path }) => path);
  return [...from.values()].flat().flatMap((edge) => {
    const back = shortest(from, edge.to, edge.path);
    return back === null ? [] : [[edge, ...back]];
  });
}

/** A circle as one line a file, so that each line opens where the circle can be cut. */
export function printCircle(circle: readonly Edge[]): string {
  return [`${circle.map(({ path }) => path).join(" -> ")} -> ${circle[0].path}`, ...circle.map(print)].join(
    "\n  ",
  );
}

function shortest(from: ReadonlyMap<string, readonly Edge[]>, start: string, end: string): Edge[] | null {
  const reached = new Map<string, Edge[]>([[start, []]]);
  for (const [path, way] of reached) {
    if (path === end) return way;
    for (const edge of from.get(path) ?? []) if (!reached.has(edge.to)) reached.set(edge.to, [...way, edge]);
  }
  return null;
}
