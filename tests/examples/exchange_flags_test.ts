/**
 * Flags of what ranks exchange.
 *
 * @module
 */

import { assertEquals, assertThrows } from "@std/assert";
import { averagedLooks, checkExchange, EXCHANGE_FLAGS, exchangeOf } from "../../examples/exchange_flags.ts";
import { COMMANDS } from "../../examples/commands.ts";
import { type Table, UsageError } from "../../examples/flags.ts";

const DEFAULTS = {
  exchange: EXCHANGE_FLAGS.exchange.fallback,
  "exchange-every": null,
  "exchange-delay": 0,
  wire: EXCHANGE_FLAGS.wire.fallback,
  "outer-lr": 1,
  "outer-momentum": 0,
  "evaluate-every": null,
  "checkpoint-minutes": null,
  keep: 2,
};
const AVERAGED = { ...DEFAULTS, exchange: "parameters" } as const;

Deno.test("ranks exchange gradients, or parameters with the outer step that flags ask for", () => {
  assertEquals(exchangeOf(DEFAULTS), { of: "gradients" });
  const shown = (flags: Parameters<typeof exchangeOf>[0]) => {
    const exchange = exchangeOf(flags);
    return exchange?.of === "parameters" &&
      [exchange.every, exchange.delay, exchange.meetEvery, exchange.wire, exchange.outer?.name];
  };
  assertEquals(shown(AVERAGED), [10, 0, null, "f32", undefined]);
  assertEquals(
    shown({ ...AVERAGED, "exchange-every": 50, wire: "int8", "outer-lr": 0.7, "outer-momentum": 0.9 }),
    [50, 0, null, "int8", "sgd(0.7, momentum 0.9, nesterov)"],
  );
  assertEquals(shown({ ...AVERAGED, "outer-lr": 0.5 }), [10, 0, null, "f32", "sgd(0.5, momentum 0)"]);
  assertEquals(shown({ ...AVERAGED, "exchange-delay": 2 }), [10, 2, null, "f32", undefined]);
  // Each rank evaluates the same parameters, or one would end alone by --stop-after.
  assertEquals(shown({ ...AVERAGED, "exchange-delay": 2, "evaluate-every": 20 }), [
    10,
    2,
    20,
    "f32",
    undefined,
  ]);
});

Deno.test("looks are as rare as averages, so that a policy makes none of its own", () => {
  const looks = (every: number | null, steps = 100): number =>
    averagedLooks({ ...AVERAGED, "exchange-every": every, steps }, 10);
  assertEquals([looks(null), looks(4), looks(25), looks(50, 30)], [10, 12, 25, 30]);
  assertEquals(averagedLooks({ ...DEFAULTS, steps: 100 }, 10), 10);
});

Deno.test("flags that do not go with an exchange are refused", () => {
  const refused = (flags: Partial<Parameters<typeof checkExchange>[0]>, reason: string): void =>
    void assertThrows(() => checkExchange({ ...AVERAGED, ...flags }), UsageError, reason);
  checkExchange(DEFAULTS);
  checkExchange({ ...AVERAGED, "evaluate-every": 20 });
  refused({ exchange: "gradients", wire: "int8" }, "--wire is of parameters: add --exchange parameters");
  refused({ exchange: "gradients", "exchange-every": 5 }, "--exchange-every is of parameters");
  refused({ exchange: "gradients", "exchange-delay": 1 }, "--exchange-delay is of parameters");
  refused({ "exchange-delay": 10 }, "--exchange-delay must be less than --exchange-every 10: got 10");
  refused(
    { "exchange-delay": 1, wire: "int8" },
    "--exchange-delay goes with --wire f32, as codes must be waited for: drop --exchange-delay 1, or --wire int8",
  );
  refused({ "evaluate-every": 15 }, "must be a multiple of --exchange-every 10");
  refused({ "evaluate-every": 0.1 }, "got 0.1 of the run; give steps");
  refused({ "checkpoint-minutes": 5 }, "give --checkpoint");
  refused({ keep: 1 }, "needs --keep 2");
  refused({ survive: true }, "give one of both");
});

Deno.test("every command that trains on ranks takes the flags of what they exchange", async () => {
  for (const [command, { ranks, script }] of Object.entries(COMMANDS)) {
    if (!ranks) continue;
    const place = command === "finetune" ? "examples/finetune_flags.ts" : script;
    const { FLAGS } = await import(import.meta.resolve(`../../${place}`)) as { readonly FLAGS: Table };
    for (const [name, flag] of Object.entries(EXCHANGE_FLAGS)) assertEquals(FLAGS[name], flag, command);
  }
});
