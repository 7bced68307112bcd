/**
 * The settings of a run, those of earlier versions included, whose texts are a file format.
 *
 * @module
 */

import { assertEquals, assertThrows } from "@std/assert";
import { DataError, InputError, type RunSettings } from "@firn/train";
import { earlierSettings } from "../../core/checkpoint/earlier_settings.ts";
import { checkSettings } from "../../core/train/settings.ts";

const SETTINGS: RunSettings = {
  optimizer:
    "chain(clipByGlobalNorm(1), adamW(cosine(0.1, warmup 1, steps 9, floor 0), weightDecay 0.01, beta2 0.95))",
  rates: "00112233aabbccdd",
  policy: "only(layerLinears, sticky(below(gradNorm, 30)))",
  steps: 9,
  lookEvery: 3,
  thawWarmup: 4,
  precision: "f16",
  validateEvery: 2,
  validation: "0123456789abcdef",
  data: "fedcba9876543210",
  model: "1122334455667788",
  trained: 5,
  parameters: 7,
  trainable: "ffeeddccbbaa9988",
};

/** What the version before records wrote of them: all but the model. */
const TEXT =
  `${SETTINGS.optimizer}, ${SETTINGS.policy}, 9 steps, a look every 3, 4 steps of warm-up after a thaw, ` +
  "a validation every 2, validated by 0123456789abcdef, f16, data fedcba9876543210, rates 00112233aabbccdd, " +
  "trainable 5 of 7 parameters ffeeddccbbaa9988";

Deno.test("earlierSettings reads each field of the text of an earlier version, and absent ones of still earlier ones", () => {
  const { model: _, ...written } = SETTINGS;
  assertEquals(earlierSettings(TEXT), written);
  assertEquals(earlierSettings("sgd(0.1), no policy, 9 steps, a look every 10"), {
    optimizer: "sgd(0.1)",
    policy: null,
    steps: 9,
    lookEvery: 10,
    thawWarmup: 10,
    precision: "f32",
    validateEvery: null,
  });
  for (const text of ["", "sgd(0.1)", "9 steps, a look every 10", "sgd(0.1), no policy, 9 steps"]) {
    assertThrows(() => earlierSettings(text), DataError, "must name optimizer, policy, steps and looks");
  }
});

Deno.test("checkSettings names each field that differs with both values, of a record and of a text", () => {
  for (const saved of [SETTINGS, earlierSettings(TEXT)]) {
    checkSettings(saved, SETTINGS);
    for (const [field, value] of Object.entries(SETTINGS)) {
      if (!(field in saved)) continue;
      const other = typeof value === "number" ? value + 1 : "another";
      const error = assertThrows(() => checkSettings(saved, { ...SETTINGS, [field]: other }), InputError);
      const difference = `"${field}" is ${JSON.stringify(other)} where that had ${JSON.stringify(value)}`;
      assertEquals(
        error.message,
        `Cannot resume as the training must be that of the saved run: ${difference}`,
      );
    }
    const both = { ...SETTINGS, steps: 10, data: null };
    assertThrows(
      () => checkSettings(saved, both),
      InputError,
      '"steps" is 10 where that had 9; "data" is null where',
    );
  }
});

Deno.test("checkSettings refuses what a later version saved besides, and lets only the rate change when asked", () => {
  const later = { ...SETTINGS, ema: 0.9 };
  assertThrows(() => checkSettings(later, SETTINGS), InputError, '"ema" is absent where that had 0.9');
  const { optimizer } = SETTINGS;
  for (const saved of [SETTINGS, earlierSettings(TEXT)]) {
    const faster = { ...SETTINGS, optimizer: optimizer.replace("0.1", "0.2"), rates: "other" };
    checkSettings(saved, faster, { newRate: true });
    assertThrows(() => checkSettings(saved, faster), InputError, '"optimizer" is "chain(');
    const eps = { ...faster, optimizer: faster.optimizer.replace("beta2", "eps 1, beta2") };
    assertThrows(() => checkSettings(saved, eps, { newRate: true }), InputError, '"optimizer" is');
  }
});
