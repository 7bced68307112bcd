/**
 * The file of results: refused before anything is measured, and never lost.
 *
 * @module
 */

import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { planOf } from "../../examples/launch_plan.ts";
import { thisMachine } from "../../examples/machine.ts";
import { driverIn } from "./machine.ts";
import { checkOutput } from "./output.ts";

/** Runs something in a new folder. */
async function inFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await run(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("checkOutput leaves a file that is there, and nothing where there was none", async () => {
  await inFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/old.json`, "old");
    await checkOutput(`${folder}/old.json`);
    await checkOutput(`${folder}/new.json`);
    assertEquals([...Deno.readDirSync(folder)].map(({ name }) => name), ["old.json"]);
    assertEquals(await Deno.readTextFile(`${folder}/old.json`), "old");
  });
});

Deno.test("checkOutput refuses a device, which a file would replace", async () => {
  await assertRejects(() => checkOutput("/dev/null"), Error, "it must be a file: it is a device");
});

Deno.test("checkOutput refuses a folder, and what is in none", async () => {
  await inFolder(async (folder) => {
    await assertRejects(
      () => checkOutput(folder),
      Error,
      `Cannot write "${folder}" as it must be a file: it is a folder; choose another file`,
    );
    await assertRejects(
      () => checkOutput(`${folder}/no/x.json`),
      Error,
      `Cannot write "${folder}/no/x.json" as its folder must exist: there is no "${folder}/no"; choose another file`,
    );
    await Deno.writeTextFile(`${folder}/file`, "");
    const refused = await checkOutput(`${folder}/file/x.json`).catch((error) => error.message);
    assertMatch(refused, /^Cannot write ".*\/file\/x\.json" as .*Not a directory/);
    // A name that is long enough for itself alone.
    const long = `${folder}/${"x".repeat(240)}`;
    const told = await checkOutput(long).catch((error) => error.message);
    assertMatch(
      told,
      /^Cannot write ".*" as its folder ".*" must take files: .*too long.*; choose another file$/,
    );
    assertEquals(told.includes(".tmp"), false, told);
  });
});

/** A command, as who has Deno runs it. */
function runCommand(...args: readonly string[]) {
  // Where these tests run with stand-ins, the process needs them too.
  const standIns = import.meta.resolve("@std/assert").startsWith("file:");
  const { code, stdout, stderr } = new Deno.Command("sh", {
    args: [
      "-c",
      'exec "$0" "$@"',
      Deno.execPath(),
      "run",
      "--quiet",
      "--allow-all",
      "examples/cli.ts",
      ...args,
    ],
    cwd: new URL("../../", import.meta.url),
    env: { NO_COLOR: "1", FIRN_FLAGS: standIns ? "--import-map=tests/stand_ins/import_map.json" : "" },
  }).outputSync();
  const text = new TextDecoder();
  return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}

for (const command of ["bench", "profile"]) {
  Deno.test(`${command} refuses a file that cannot be written in one line, before it measures`, () => {
    assertEquals(runCommand(command, "--json=nowhere/x.json"), {
      code: 1,
      stdout: "",
      stderr:
        `${command}: Cannot write "nowhere/x.json" as its folder must exist: there is no "nowhere"; choose another file\n`,
    });
  });

  Deno.test(`${command} is told what the kernel says of its NVIDIA driver, or nothing`, () => {
    const told = (nvidia: string | null) =>
      planOf([command], { machine: { ...thisMachine(), env: () => undefined, nvidia: () => nvidia } }).main;
    const text = "NVRM version: 580.159.03  (a; b) $HOME\nGCC version: 12.3";
    assertEquals([told(text).env, told(null).env], [{ FIRN_NVIDIA: text }, { FIRN_NVIDIA: "" }]);
    assertEquals(told(null).flags[0], "--allow-env=FIRN_NVIDIA");
    assertEquals(driverIn(text), "580.159.03");
  });
}
