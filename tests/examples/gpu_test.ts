/**
 * The flags that choose a device.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { UsageError } from "../../examples/flags.ts";
import { dawnIsFaster, GPU_FLAGS, openDevice } from "../../examples/gpu.ts";
import { savedFlags } from "../../examples/saved_flags.ts";
import { SOURCES } from "../architecture/source.ts";

Deno.test("a command says that Dawn would be faster only for what is trained in f16 on NVIDIA, where it may choose", () => {
  const asked = { name: "NVIDIA H200", precision: "f16", os: "linux" };
  const cases: readonly [Partial<typeof asked> & { readonly gpu?: "deno" | "dawn" }, boolean][] = [
    [{}, true],
    [{ os: "windows" }, true],
    [{ os: "darwin" }, false],
    [{ precision: "f32" }, false],
    [{ name: "llvmpipe (LLVM 15.0.6, 256 bits)" }, false],
    [{ name: "NVIDIA GeForce GTX 1080" }, false],
    [{ gpu: "deno" }, false],
    [{ gpu: "dawn" }, false],
  ];
  for (const [change, expected] of cases) {
    const { name, ...rest } = { ...asked, ...change };
    assertEquals(dawnIsFaster({ name }, rest), expected, JSON.stringify(change));
  }
});

Deno.test("--unsafe-gpu is refused where there is no check that it could drop", async () => {
  for (const gpu of ["auto", "deno"] as const) {
    await assertRejects(() => openDevice({ gpu, "unsafe-gpu": true }), UsageError, "add --gpu dawn");
  }
});

Deno.test("a checkpoint neither loads Dawn nor drops its checks nor chooses a GPU", () => {
  const extra = { gpu: "dawn", "unsafe-gpu": true, "no-tune": true, device: "0000:00:07.0" };
  const { flags } = savedFlags(extra, { command: "finetune", table: GPU_FLAGS, path: "c" });
  assertEquals(flags, { gpu: "auto", "unsafe-gpu": false, "no-tune": true, device: null });
});

Deno.test("every command that opens a device has the flags that choose it", () => {
  const commands = SOURCES.filter(({ path, text }) =>
    // ranks_rank is started by ranks, which tells it all.
    /^(examples|tests)\//.test(path) && !/(_test|\/ranks_rank)\.ts$/.test(path) &&
    /\brunMain\(main/.test(text) &&
    /\b(openGpu|openDevice|openShown|openBenchDevice|openReader)\(/.test(text)
  );
  assert(commands.length > 15, `only ${commands.length} commands`);
  // Some have their flags in a file beside them.
  const textsOf = ({ path, text }: (typeof SOURCES)[number]): string[] => {
    const beside = path.replace(/\.ts$/, "_flags.ts");
    return [text, ...SOURCES.filter((source) => source.path === beside).map((source) => source.text)];
  };
  const without = commands.filter((command) =>
    textsOf(command).every((text) => !/\b(GPU_FLAGS|READER_FLAGS)\b/.test(text))
  );
  assertEquals(without.map(({ path }) => path), []);
});
