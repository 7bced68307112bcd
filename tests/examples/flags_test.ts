/**
 * The command line flags of the examples.
 *
 * @module
 */

import { assertEquals, assertThrows } from "@std/assert";
import {
  nearest,
  oneOf,
  positive,
  readFlags,
  share,
  text,
  toggle,
  topic,
  UsageError,
  type Values,
  whole,
} from "../../examples/flags.ts";

const TABLE = {
  model: text("DIR", "folder of the model", "models/small"),
  out: text("DIR", "output folder, new when absent", null),
  steps: whole("optimizer steps", 120),
  seed: whole("seed", 0, 0),
  lr: positive("learning rate", 0.002),
  alpha: share("grace period", 0.5),
  metric: oneOf(["gradNorm", "gradDelta"], "signal", "gradNorm"),
};

const DEFAULTS: Values<typeof TABLE> = {
  model: "models/small",
  out: null,
  steps: 120,
  seed: 0,
  lr: 0.002,
  alpha: 0.5,
  metric: "gradNorm",
};

Deno.test("readFlags gives every default when there are no arguments", () => {
  assertEquals(readFlags([], TABLE), { values: DEFAULTS, given: [], help: false });
});

Deno.test("readFlags reads the value of a flag that begins with no-, beside toggles that do", () => {
  const table = { "no-repeat-ngram-size": whole("tokens", null), "no-tune": toggle("by a rule") };
  for (
    const args of [["--no-repeat-ngram-size", "3", "--no-tune"], ["--no-tune", "--no-repeat-ngram-size=3"]]
  ) {
    assertEquals(readFlags(args, table).values, { "no-repeat-ngram-size": 3, "no-tune": true });
  }
  assertThrows(() => readFlags(["--no-tune", "3"], table), UsageError, '"3" belongs to no flag');
});

Deno.test("readFlags reads values after a space and after an equals sign", () => {
  const args = "--steps 6 --lr=1e-4 --alpha 1 --metric=gradDelta --out a=b --seed 0 --model x".split(" ");
  const { values, given } = readFlags(args, TABLE);
  assertEquals(values, {
    model: "x",
    out: "a=b",
    steps: 6,
    seed: 0,
    lr: 1e-4,
    alpha: 1,
    metric: "gradDelta",
  });
  assertEquals(given, ["model", "out", "steps", "seed", "lr", "alpha", "metric"]);
});

Deno.test("readFlags keeps a value that is a number or a sentence as text where text is asked for", () => {
  assertEquals(readFlags(["--model", "007"], TABLE).values.model, "007");
  assertEquals(readFlags(["--model", "Call me Ishmael."], TABLE).values.model, "Call me Ishmael.");
});

Deno.test("readFlags takes a negative number for a value, not for a flag", () => {
  assertEquals(readFlags(["--model", "-1.5", "--steps", "7"], TABLE).values.model, "-1.5");
});

Deno.test("readFlags leaves a number that is absent null where it has no default", () => {
  const table = { steps: whole("optimizer steps", null), rate: positive("learning rate", null) };
  assertEquals(readFlags([], table).values, { steps: null, rate: null });
  assertEquals(readFlags(["--steps", "6", "--rate", "0.5"], table).values, { steps: 6, rate: 0.5 });
});

Deno.test("readFlags asks whether a misspelled word stands for one that a flag takes", () => {
  const table = { model: oneOf(["mlp", "mixer", "convnet"], "what is trained", "mlp") };
  const refused = (value: string) =>
    assertThrows(() => readFlags(["--model", value], table), UsageError).message;
  const rule = "--model must be one of mlp, mixer, convnet: got ";
  assertEquals(refused("convnte"), `${rule}"convnte"; did you mean convnet?`);
  assertEquals(refused("MIXER"), `${rule}"MIXER"; did you mean mixer?`);
  assertEquals(refused("transformer"), `${rule}"transformer"`);
  assertEquals(nearest("daen", ["auto", "deno", "dawn"]), "dawn");
});

Deno.test("readFlags sees --help and -h", () => {
  assertEquals([["--help"], ["-h"], ["--steps", "6", "--help"]].map((args) => readFlags(args, TABLE).help), [
    true,
    true,
    true,
  ]);
});

Deno.test("readFlags reads a toggle as given or not, and it takes no value", () => {
  const table = { quiet: toggle("say less"), steps: whole("optimizer steps", 120) };
  assertEquals(readFlags([], table), { values: { quiet: false, steps: 120 }, given: [], help: false });
  assertEquals(readFlags(["--quiet", "--steps", "6"], table).values, { quiet: true, steps: 6 });
  assertThrows(() => readFlags(["--quiet", "6"], table), UsageError, '"6" belongs to no flag');
  for (const value of ["7", "no", "false", ""]) {
    assertThrows(() => readFlags([`--quiet=${value}`], table), UsageError, "--quiet takes no value");
  }
  assertEquals(readFlags(["--steps=6", "--quiet"], table).values, { quiet: true, steps: 6 });
});

Deno.test("readFlags reads the topic behind --help where the table has topics", () => {
  const table = { ...topic("memory", { quiet: toggle("say less") }), steps: whole("optimizer steps", 120) };
  const helps = [["--help"], ["--help", "memory"], ["--help=memory"], ["-h", "memory", "--quiet"], [
    "--help",
    "--quiet",
  ]];
  assertEquals(helps.map((args) => readFlags(args, table).help), [true, "memory", "memory", "memory", true]);
  assertThrows(
    () => readFlags(["--help", "me"], table),
    UsageError,
    '--help has the topics memory: got "me"',
  );
});

Deno.test("readFlags turns a toggle off with --no-NAME, and counts it as given", () => {
  const table = { pack: toggle("pack rows"), "no-tune": toggle("by a rule") };
  const { values, given } = readFlags(["--no-pack"], table);
  assertEquals([values, given], [{ pack: false, "no-tune": false }, ["pack"]]);
  assertThrows(() => readFlags(["--no-pack", "--pack"], table), UsageError, "are both given: give one");
  assertThrows(() => readFlags(["--no-no-tune=1"], table), UsageError);
});

/** Arguments that must be refused, and the whole message. */
const REFUSED: readonly (readonly [args: readonly string[], message: string])[] = [
  [["--stpes", "6"], 'there is no flag "--stpes"; did you mean --steps?'],
  [["--mode", "x"], 'there is no flag "--mode"; did you mean --model?'],
  [["--sedations"], 'there is no flag "--sedations"'],
  [["--steps", "6", "--steps", "7"], "--steps is given twice: give it once"],
  [["--steps=6", "--steps=6"], "--steps is given twice: give it once"],
  [["--steps", "-1"], '--steps must be a whole number from 1: got "-1"'],
  [["--stpes=6"], 'there is no flag "--stpes"; did you mean --steps?'],
  [["-s", "6"], 'there is no flag "-s"'],
  [["--no-steps"], 'there is no flag "--no-steps"'],
  [["finetune"], '"finetune" belongs to no flag'],
  [["--steps", "6", "7"], '"7" belongs to no flag'],
  [["--", "6"], '"6" belongs to no flag'],
  [["--steps"], "--steps needs a value: --steps N"],
  [["--steps="], "--steps needs a value: --steps N"],
  [["--steps", "--lr", "1"], "--steps needs a value: --steps N"],
  [["--metric", ""], "--metric needs a value: --metric gradNorm|gradDelta"],
  [["--steps", "0"], '--steps must be a whole number from 1: got "0"'],
  [["--steps=-1"], '--steps must be a whole number from 1: got "-1"'],
  [["--steps", "1.5"], '--steps must be a whole number from 1: got "1.5"'],
  [["--steps", "six"], '--steps must be a whole number from 1: got "six"'],
  [["--steps", " "], '--steps must be a whole number from 1: got " "'],
  [["--steps", "1e300"], '--steps must be a whole number from 1: got "1e300"'],
  [["--seed", "0.5"], '--seed must be a whole number from 0: got "0.5"'],
  [["--lr", "0"], '--lr must be a number above 0: got "0"'],
  [["--lr", "NaN"], '--lr must be a number above 0: got "NaN"'],
  [["--lr", "Infinity"], '--lr must be a number above 0: got "Infinity"'],
  [["--alpha", "1.01"], '--alpha must be a number from 0 to 1: got "1.01"'],
  [["--alpha=-0.1"], '--alpha must be a number from 0 to 1: got "-0.1"'],
  [
    ["--metric", "GradNorm"],
    '--metric must be one of gradNorm, gradDelta: got "GradNorm"; did you mean gradNorm?',
  ],
];

for (const [args, message] of REFUSED) {
  Deno.test(`readFlags refuses ${JSON.stringify(args.join(" "))}`, () => {
    assertEquals(assertThrows(() => readFlags(args, TABLE), UsageError).message, message);
  });
}
