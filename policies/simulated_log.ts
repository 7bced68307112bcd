import { atPace } from "../core/report/replay_of.ts";
import type { FreezeLine, Line, StepLine } from "../core/report/types.ts";
import type { Course } from "./simulated_course.ts";

/**
 * Writes the log of a simulated run, for the pages that are made of logs.
 *
 * @param lines The log of the run that was recorded
 * @param options The policy's name, its course, what each step costs, the pace, and the cost of a step without a freeze
 * @returns The log. It has no readings, and no loss from the step on where another set is frozen than was
 */
export function simulatedLog(
  lines: readonly Line[],
  { policy, course, costs, pace, full }: {
    readonly policy: string;
    readonly course: Course;
    readonly costs: readonly number[];
    readonly pace: ((cost: number) => number) | null;
    readonly full: number;
  },
): Line[] {
  const { sets, ending } = course, changes = new Map(course.changes.map((change) => [change.step, change]));
  const recorded = new Set<string>(), made: Line[] = [];
  let same = true, at = 0;
  const stepOf = (line: StepLine): StepLine => {
    const { frozen } = sets[at], cost = costs[at++];
    same &&= frozen.length === recorded.size && frozen.every((path) => recorded.has(path));
    const { step, learningRate, launches } = line;
    return {
      kind: "step",
      step,
      loss: same ? line.loss : null,
      ...same && line.validation !== undefined && { validation: line.validation },
      learningRate,
      ...atPace(line, pace?.(cost) ?? line.stepMs),
      launches,
      flops: cost ?? line.flops,
      frozen: frozen.length,
      readings: {},
    };
  };
  for (const line of lines) {
    if (line.kind === "start") {
      const { kind, config, adapter } = line;
      made.push({ kind, config: { ...config, policy }, adapter });
    } else if (line.kind === "components") made.push(line);
    else if (line.kind === "step" && at < sets.length) {
      made.push(stepOf(line));
      const change = changes.get(line.step);
      if (change === undefined) continue;
      const last = ending?.step === line.step && ending.reason !== "steps";
      made.push({
        kind: "freeze",
        ...change,
        ...costsOf(costs, { at, last, full, launches: line.launches }),
      });
    } else if (line.kind === "freeze") {
      for (const path of line.thawed) recorded.delete(path);
      for (const path of line.frozen) recorded.add(path);
    }
  }
  return ending === null ? made : [...made, { kind: "end", ending }];
}

/** What a step cost before a change, and after it: that of the next step. */
function costsOf(
  costs: readonly number[],
  { at, last, full, launches }: {
    readonly at: number;
    readonly last: boolean;
    readonly full: number;
    readonly launches: number;
  },
): Pick<FreezeLine, "before" | "after"> {
  const of = (flops: number, count: number) => (
    { launches: count, flops, matmulFlops: flops, bytes: 0, memory: 0, constants: 0 }
  );
  return {
    before: of(costs[at - 1] ?? full, launches),
    after: of(last ? 0 : costs[at] ?? 0, last ? 0 : launches),
  };
}
