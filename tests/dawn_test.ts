/**
 * Dawn, Google's WebGPU, on a software driver.
 *
 * @module
 */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { refusalOf } from "../core/host/load_dawn.ts";
import { dawnName } from "../core/runtime/dawn.ts";
import { dawnTest, runDeno } from "./dawn/software.ts";

/** Tests that also run on Dawn: of devices, and of kernels that compile quickly and are not in the training below. */
const ON_DAWN = [
  "runtime/device_test.ts",
  ...["layer_norm", "movement", "random"].map((name) => `kernels/${name}_test.ts`),
].map((path) => `tests/${path}`);

/** Adam's first steps amplify the roundings of tiny gradients; natively, lavapipe 22 and 26 differ by 1e-6. */
const ROUNDING = 2e-5;

dawnTest("tests of devices and kernels pass on Dawn", async (driver) => {
  const args = ["test", "--preload=tests/dawn/preload.ts", "--allow-ffi", "--allow-read", "--allow-write"];
  const { code, stdout } = await runDeno([...args, ...ON_DAWN], { VK_DRIVER_FILES: driver });
  assertEquals(code, 0, stdout.slice(-2000));
  const passed = Number(stdout.match(/ok \| (\d+) passed/)?.[1]);
  assert(passed > 40, `only ${passed} passed`);
});

dawnTest(
  "a training of 20 steps on Dawn equals the one on Deno's own GPU within rounding",
  async (driver) => {
    const [native, dawn] = await Promise.all(["deno", "dawn"].map(async (provider) => {
      const env: Record<string, string> = provider === "dawn" ? { VK_DRIVER_FILES: driver } : {};
      const { code, stdout, stderr } = await runDeno(
        ["run", "--allow-ffi", "--allow-read", "tests/dawn/sotu.ts", provider],
        env,
      );
      assertEquals(code, 0, stderr);
      return JSON.parse(stdout);
    }));
    assertEquals([native.losses.length, dawn.losses.length], [20, 20]);
    const differences = native.losses.map((loss: number, i: number) => Math.abs(dawn.losses[i] / loss - 1));
    assert(Math.max(...differences) < ROUNDING, `${differences}`);
    assertMatch(dawn.name, /^SwiftShader.* \(dawn\)$/);
    const { software, subgroupSize, matrices, maxBindings } = dawn.target;
    assertEquals({ software, subgroupSize, matrices }, { software: true, subgroupSize: 4, matrices: [] });
    assert(maxBindings >= 8 && maxBindings < 32, `${maxBindings} bindings`);
  },
);

dawnTest("a process that uses Dawn ends as it should, whatever it still holds", async (driver) => {
  const script = ["run", "--v8-flags=--expose-gc", "--allow-ffi", "tests/dawn/ends.ts"];
  const env = { VK_DRIVER_FILES: driver };
  const { stdout: names } = await runDeno(script, env);
  for (const name of JSON.parse(names)) {
    const { code, stdout, stderr } = await runDeno([...script, name], env);
    const fails = name.startsWith("by an error");
    assertEquals([code, stdout], fails ? [1, ""] : [0, "end\n"], `${name}: ${stderr}`);
    if (fails) assertStringIncludes(stderr, "on purpose");
  }
});

dawnTest(
  "openGpu says what helps where Dawn may not be loaded, and where it finds no driver",
  async (driver) => {
    const script = ["tests/dawn/sotu.ts", "dawn"];
    const refused = await runDeno(["run", "--allow-read", ...script], { VK_DRIVER_FILES: driver });
    assertEquals(refused.code, 1);
    assertStringIncludes(refused.stderr, "InputError: Cannot load Dawn as Deno must be allowed");
    const bare = await runDeno(["run", "--allow-read", "--allow-ffi", ...script], {
      VK_DRIVER_FILES: "/nowhere",
    });
    assertEquals(bare.code, 1);
    assertStringIncludes(
      bare.stderr,
      "NotFoundError: Cannot open a GPU as Dawn has no adapter: install a driver",
    );
  },
);

dawnTest("training with f32x3 on a driver without matrix units says what to use", async (driver) => {
  const { code, stderr } = await runDeno(
    ["run", "--allow-ffi", "--allow-read", "tests/dawn/sotu.ts", "dawn", "f32x3"],
    { VK_DRIVER_FILES: driver },
  );
  assertEquals(code, 1);
  assertMatch(
    stderr,
    /InputError: Cannot train with precision "f32x3" as "SwiftShader.*" offers no matrix units .*: use "f32"/,
  );
});

Deno.test("a failed import of Dawn says what a person can do about it", () => {
  const platform = { os: "freebsd", arch: "x86_64" };
  const cases: readonly [{ name: string; message: string; code?: string }, string, RegExp][] = [
    [{ name: "NotCapable", message: "Requires ffi access" }, "InputError", /run with --allow-ffi/],
    [
      { name: "Error", message: "Cannot find module", code: "MODULE_NOT_FOUND" },
      "NotFoundError",
      /has none for freebsd on x86_64; take the GPU of Deno itself$/,
    ],
    [
      { name: "Error", message: "libc.so.6: version `GLIBC_2.38' not found" },
      "NotFoundError",
      /must run here: libc.*GLIBC_2\.38.*; take the GPU of Deno itself$/,
    ],
    [
      { name: "TypeError", message: "npm package not found in cache: webgpu\nmore" },
      "NotFoundError",
      /must be at hand: npm package not found in cache: webgpu; fetch it once.*deno cache npm:webgpu@[\d.]+$/,
    ],
  ];
  for (const [error, name, message] of cases) {
    const refusal = refusalOf(error, platform);
    assertEquals(refusal.name, name);
    assertMatch(refusal.message, message);
  }
});

Deno.test("deno.json pins the Dawn that is loaded, whose script is not run and not warned of", async () => {
  const { imports, allowScripts } = JSON.parse(await Deno.readTextFile("deno.json"));
  for (const path of ["core/host/load_dawn.ts", "tests/dawn/sid.sh"]) {
    const named = (await Deno.readTextFile(path)).match(/npm:webgpu@[\d.]+/g);
    assertEquals(new Set(named), new Set([imports.webgpu]), path);
  }
  assertEquals(allowScripts, { deny: ["npm:webgpu"] });
});

Deno.test("an adapter of Dawn is called as its card is, and a software one as its driver", () => {
  const info = { description: "NVIDIA: 580.159", device: "nvidia-h200", isFallbackAdapter: false };
  assertEquals(dawnName(info), "NVIDIA H200");
  assertEquals(dawnName({ ...info, description: "Mesa 26", isFallbackAdapter: true }), "Mesa 26");
  assertEquals(dawnName({ ...info, device: "" }), "NVIDIA: 580.159");
});
