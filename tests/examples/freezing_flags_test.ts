/**
 * Flags about freezing: what trains at all, and what is measured besides.
 *
 * @module
 */

import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { InputError, type Model, tensor } from "@firn/train";
import { main } from "../../examples/finetune.ts";
import { UsageError } from "../../examples/flags.ts";
import { recordedOf, trainedPart } from "../../examples/freezing_flags.ts";
import { policyOf } from "../../examples/policies.ts";
import { call } from "./process.ts";

Deno.test("--train makes a model of which biases alone train, on request with the gains of norms", () => {
  const params = {
    up: { weight: tensor([1, 2, 3, 4], [2, 2]), bias: tensor([0, 0]) },
    norm: { weight: tensor([1, 1]) },
  };
  const model = { params } as unknown as Model, paths = ["up.weight", "up.bias", "norm.weight"];
  const trained = (train: "all" | "biases" | "biases+norms") => trainedPart(model, { train }).trainable;
  assertEquals(trained("all"), undefined);
  assertEquals(paths.filter(trained("biases")!), ["up.bias"]);
  assertEquals(paths.filter(trained("biases+norms")!), ["up.bias", "norm.weight"]);
  const bare = { params: { norm: params.norm } } as unknown as Model;
  assertThrows(() => trainedPart(bare, { train: "biases" }), InputError, "must have a bias");
});

Deno.test("--train refuses what would train something else, or nothing that is left", async () => {
  const cases = [
    [
      "--train biases",
      "--train biases leaves no matrices that --policy gradES could freeze: add --policy none",
    ],
    ["--train biases --lora 4", "--train biases and an adapter both say what trains: give one"],
    ["--train biases+norms --reward --policy none", "--reward trains a new head, which --train biases+norms"],
    ["--train norms", "--train"],
  ];
  for (const [flags, message] of cases) {
    assertStringIncludes(`${await call(main, ["--model", "x", ...flags.split(" ")])}`, message);
  }
});

Deno.test("--record measures besides what the policy does, and all is what policies by name read", async () => {
  const signals = async (policy: string, record: string) => {
    const made = await policyOf(policy, { record: recordedOf({ record, optimizer: "adamW" }) });
    return made.policy!.signals;
  };
  assertEquals(await signals("gradES", "benefit,weightNorm"), ["gradNorm", "benefit", "weightNorm"]);
  assertEquals(await signals("none", "benefit"), ["benefit"]);
  const all = await signals("none", "all");
  for (const name of ["gradES", "snr", "prefix", "costAware", "auto", "gradientProbe", "adaGradSelect"]) {
    const { policy } = await policyOf(name, {});
    assertEquals(policy!.signals.filter((signal) => !all.includes(signal)), [], name);
  }
  assertEquals(recordedOf({ record: "all", optimizer: "lion" }).includes("firstMoment"), false);
  assertThrows(() => recordedOf({ record: "benefit,", optimizer: "adamW" }), UsageError, "names of signals");
});
