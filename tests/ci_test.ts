/**
 * What `.ci/run` makes of its checks, run in a folder of its own with a fake of the launcher.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { ROOT, run, script } from "./shell.ts";

/** A JUnit report as `deno test` writes it, of tests that took 0, 1, ... seconds. */
const REPORT = Array.from(
  { length: 22 },
  (_, i) =>
    `<testcase name="test &quot;${i}&quot; &amp; more" classname="./tests/a_test.ts" time="${i}.250" line="1" col="6">`,
);

const CHECKS = Deno.readTextFileSync(new URL(".ci/run", ROOT));

/** The scripts among the checks, and how many checks there are beside the tests. */
const SCRIPTS = [...CHECKS.matchAll(/^step sh (\S+)/gm)].map(([, path]) => path);
const STEPS = [...CHECKS.matchAll(/^step /gm)].length;

interface Checks {
  readonly code: number;
  /** The lines that it printed, and the last of them. */
  readonly lines: readonly string[];
  readonly last: string;
}

/** Runs `.ci/run` with a launcher whose test command prints a summary, and whose `broken` step fails. */
function runChecks(summary: string, status: number, broken = "none"): Checks {
  const folder = Deno.makeTempDirSync();
  try {
    Deno.mkdirSync(`${folder}/.ci`);
    Deno.writeTextFileSync(`${folder}/.ci/run`, CHECKS);
    for (const path of SCRIPTS) {
      Deno.mkdirSync(`${folder}/${path}`.replace(/[^/]*$/, ""), { recursive: true });
      script(`${folder}/${path}`, "");
    }
    Deno.writeTextFileSync(`${folder}/report.xml`, REPORT.join("\n"));
    script(
      `${folder}/firn`,
      `#!/bin/sh
case "$*" in
  "test --junit-path="*) cp report.xml "\${2#--junit-path=}"; echo "${summary}"; exit ${status} ;;
  *${broken}*) exit 1 ;;
esac
`,
    );
    const { code, stdout } = run(folder, [".ci/run"]);
    const lines = new TextDecoder().decode(stdout).trimEnd().split("\n");
    return { code, lines, last: lines.at(-1)! };
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

/** The exit status of {@link runChecks} and the last line. */
function outcome(...args: Parameters<typeof runChecks>): [number, string] {
  const { code, last } = runChecks(...args);
  return [code, last];
}

Deno.test(".ci/run counts the tests and its other checks", () => {
  assertEquals(outcome("ok | 12 passed (3 steps) | 0 failed (1s)", 0), [0, `${STEPS + 12} passed, 0 failed`]);
});

Deno.test(".ci/run names the twenty slowest tests, the slowest first", () => {
  const { lines } = runChecks("ok | 12 passed | 0 failed (1s)", 0);
  const begin = lines.indexOf("--- slowest tests") + 1;
  const expected = Array.from(
    { length: 20 },
    (_, i) => `${21 - i}.250 s  ./tests/a_test.ts  test "${21 - i}" & more`,
  );
  assertEquals(lines.slice(begin, begin + 20), expected);
});

Deno.test(".ci/run fails with a test, and with a run that broke off", () => {
  assertEquals(outcome("FAILED | 12 passed | 2 failed (1s)", 1), [1, `${STEPS + 12} passed, 2 failed`]);
  assertEquals(outcome("error: Type checking failed.", 1), [1, `${STEPS} passed, 1 failed`]);
  assertEquals(outcome("ok | 12 passed | 0 failed (1s)", 1), [1, `${STEPS + 12} passed, 1 failed`]);
  assertEquals(outcome("", 0), [1, `${STEPS} passed, 1 failed`]);
});

Deno.test(".ci/run goes on after a check that failed", () => {
  assertEquals(outcome("ok | 12 passed | 0 failed (1s)", 0, "fmt"), [1, `${STEPS + 11} passed, 1 failed`]);
});
