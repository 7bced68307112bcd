/**
 * What a run froze, why, and what that saved, computed from its log.
 *
 * @module
 */

import { counted } from "../counted.ts";
import { DataError } from "../errors.ts";
import type { Reason } from "../policy.ts";
import type { Path } from "../tree.ts";
import { median } from "./numbers.ts";
import type { Change, Explanation, FreezeLine, Line, Moved, StartLine, StepLine } from "./types.ts";

/**
 * Finds the line that says what a run is.
 *
 * @param lines Its log
 * @returns The line
 * @throws {DataError} When there is none
 */
export function startOf(lines: readonly Line[]): StartLine {
  const start = lines.find((line) => line.kind === "start");
  if (start !== undefined) return start;
  throw new DataError(
    `Cannot tell of a run as its log must begin with its start: none of ${
      counted(lines.length, "line")
    } is; wait until the run has begun`,
  );
}

/**
 * Explains a run.
 *
 * @param lines Its log, in order; the run may be under way
 * @returns The explanation
 * @throws {DataError} When no line is the start of a run
 */
export function explain(lines: readonly Line[]): Explanation {
  const start = startOf(lines);
  const end = lines.find((line) => line.kind === "end") ?? null;
  const steps = lines.filter((line) => line.kind === "step");
  const events = lines.filter((line) => line.kind === "freeze");
  const components = lines.find((line) => line.kind === "components")?.components ?? [];
  const costs = new Map(components.map(({ path, cost }) => [path, cost?.dW ?? null]));

  const since = new Map<Path, { readonly step: number; readonly reason: Reason | null }>();
  const paces = pacesOf(steps, events);
  const changes = events.map((event, i): Change => {
    const moved = (path: Path) => ({ path, flops: costs.get(path) ?? null });
    const thawed = event.thawed.map((path): Moved => {
      const held = since.get(path);
      since.delete(path);
      const reason = held?.reason ?? null;
      return { ...moved(path), reason, ...held && { heldFor: event.step - held.step } };
    });
    const frozen = event.frozen.map((path): Moved => {
      const reason = event.reasons?.[path] ?? null;
      since.set(path, { step: event.step, reason });
      return { ...moved(path), reason };
    });
    return {
      step: event.step,
      frozen,
      thawed,
      before: { cost: event.before, stepMs: paces[i] },
      after: { cost: event.after, stepMs: paces[i + 1] },
    };
  });

  const known = components.length > 0
    ? components.map(({ path }) => path)
    : [...new Set(steps.flatMap(({ readings }) => Object.values(readings).flatMap(Object.keys)))];
  const size = (which: typeof components) => which.reduce((n, component) => n + component.size, 0);
  const { steps: planned } = start.config;
  return {
    config: start.config,
    adapter: start.adapter,
    steps: steps.at(-1)?.step ?? 0,
    planned: typeof planned === "number" ? planned : null,
    finished: end !== null,
    ending: end?.ending ?? null,
    quality: { before: start, after: end },
    changes,
    frozen: [...since.keys()],
    active: known.filter((path) => !since.has(path)),
    share: components.length === 0
      ? null
      : size(components.filter(({ path }) => since.has(path))) / size(components),
    flopShare: flopShareOf(steps, events),
  };
}

/** Milliseconds of a step before the first change of the frozen set, between it and the next, and so on. */
function pacesOf(steps: readonly StepLine[], events: readonly FreezeLine[]): (number | null)[] {
  return [0, ...events.map(({ step }) => step)].map((from, i) => {
    const to = events[i]?.step ?? Infinity;
    const span = steps.filter(({ step }) => step > from && step <= to);
    // The first look after a change includes the compilation of new shaders.
    const settled = span.filter(({ stepMs }) => stepMs !== span[0].stepMs);
    return settled.length === 0 ? null : median(settled.map(({ stepMs }) => stepMs));
  });
}

function flopShareOf(steps: readonly StepLine[], events: readonly FreezeLine[]): number | null {
  if (steps.length === 0) return null;
  const full = events[0]?.before.flops ?? steps[0].flops;
  return steps.reduce((sum, { flops }) => sum + flops, 0) / (full * steps.length);
}
