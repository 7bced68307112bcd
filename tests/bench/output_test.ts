/**
 * The file of results: refused before anything is measured, and never lost.
 *
 * @module
 */

import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import config from "../../deno.json" with { type: "json" };
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

/** A task of deno.json in a folder of its own. */
function runTask(task: string, args: readonly string[], options: { cwd?: string | URL } = {}) {
  // Where these tests run with stand-ins, the process needs them too.
  const standIns = import.meta.resolve("@std/assert").startsWith("file:");
  const { code, stdout, stderr } = new Deno.Command("sh", {
    args: ["-c", 'exec "$0" "$@"', Deno.execPath(), "task", "-q", task, ...args],
    cwd: new URL("../../", import.meta.url),
    env: { NO_COLOR: "1", FIRN_FLAGS: standIns ? "--import-map=tests/stand_ins/import_map.json" : "" },
    ...options,
  }).outputSync();
  const text = new TextDecoder();
  return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}

for (const task of ["bench", "profile"]) {
  Deno.test(`${task} refuses a file that cannot be written in one line, before it measures`, () => {
    assertEquals(runTask(task, ["--json=nowhere/x.json"]), {
      code: 1,
      stdout: "",
      stderr:
        `${task}: Cannot write "nowhere/x.json" as its folder must exist: there is no "nowhere"; choose another file\n`,
    });
  });
}

for (const [task, command] of [["bench", config.tasks.bench], ["profile", config.tasks.profile]]) {
  Deno.test(`the task ${task} hands over what the kernel says of its NVIDIA driver, or nothing`, async () => {
    await inFolder((folder) => {
      const file = `${folder}/version`;
      const told = command.replace("/proc/driver/nvidia/version", file)
        .replace(
          /deno run .*--allow-env=FIRN_NVIDIA .*/,
          "deno eval 'console.log(Deno.env.get(`FIRN_NVIDIA`))'",
        );
      Deno.writeTextFileSync(`${folder}/deno.json`, JSON.stringify({ tasks: { told } }));
      assertEquals(runTask("told", [], { cwd: folder }), { code: 0, stdout: "\n", stderr: "" });
      Deno.writeTextFileSync(file, "NVRM version: 580.159.03  (a; b) $HOME\nGCC version: 12.3\n");
      const { stdout } = runTask("told", [], { cwd: folder });
      assertEquals(stdout, "NVRM version: 580.159.03 (a; b) $HOME GCC version: 12.3\n");
      assertEquals(driverIn(stdout), "580.159.03");
      return Promise.resolve();
    });
  });
}
