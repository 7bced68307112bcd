/**
 * What a command may do that a launcher of MPI started.
 *
 * @module
 */

import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { LAUNCHER_VARIABLES, LIBRARY_VARIABLE } from "@firn/train/ranks";
import { LaunchError, planOf } from "../../examples/launch_plan.ts";
import { pathsOf, thisMachine } from "../../examples/machine.ts";
import { inFolder } from "../data/files.ts";
import { ROOT } from "../shell.ts";

/** Permissions of a command in an environment. */
function flagsOf(command: string, own: Readonly<Record<string, string>> = {}): readonly string[] {
  const env: Readonly<Record<string, string>> = { DENO_DIR: "/deno", HF_HOME: "/hf", ...own };
  const machine = {
    ...{ ...thisMachine(), os: "linux", folder: "/here" },
    env: (name: string) => env[name],
    kindOf: () => null,
    realPath: (path: string) => pathsOf({ os: "linux" }).resolve("/here", path),
    nvidia: () => null,
  };
  return planOf([command], { machine }).main.flags;
}

Deno.test("a launcher of MPI gives what trains its one library, and refuses what all processes would do", () => {
  const started = { OMPI_COMM_WORLD_SIZE: "2", FIRN_MPI_LIBRARY: "/lib/mpi.so" };
  for (const command of ["finetune", "pretrain", "digits", "classify", "vision", "vlm", "lora"]) {
    const ffi = flagsOf(command, started).filter((flag) => flag.includes("ffi"));
    assertEquals(ffi, ["--allow-ffi=/lib/mpi.so"], command);
  }
  for (const command of ["generate", "merge", "watch", "evaluate"]) {
    assertThrows(() => flagsOf(command, started), LaunchError, `each would do all of "${command}"`);
  }
  assertThrows(() => flagsOf("finetune", { PMI_SIZE: "2" }), LaunchError, "FIRN_MPI_LIBRARY must name");
  // A terminal within a job of Slurm.
  assertEquals(flagsOf("finetune", { SLURM_STEP_NUM_TASKS: "1" }), flagsOf("finetune"));
  // One process of mpirun, in a terminal that Slurm gave more.
  assertEquals(
    flagsOf("finetune", { OMPI_COMM_WORLD_SIZE: "1", SLURM_STEP_NUM_TASKS: "8" }),
    flagsOf("finetune"),
  );
});

Deno.test("a rank reads the variables that tell its number, and no other of its launcher: Slurm's has a token", () => {
  const flags = flagsOf("digits", { SLURM_STEP_NUM_TASKS: "2", FIRN_MPI_LIBRARY: "/lib/mpi.so" });
  const [names, ...more] = flags.filter((flag) => flag.startsWith("--allow-env="));
  assertEquals(more, []);
  const own = names.slice("--allow-env=".length).split(",");
  assertEquals(own.toSorted(), [LIBRARY_VARIABLE, ...LAUNCHER_VARIABLES].toSorted());
});

Deno.test("a rank may write the file that says why it ends, and no other of its folder", () => {
  const started = { OMPI_COMM_WORLD_SIZE: "2", FIRN_MPI_LIBRARY: "/lib/mpi.so", FIRN_WHY: "/tmp/a/why" };
  const flags = flagsOf("finetune", started);
  const listOf = (name: string): string[] =>
    flags.find((flag) => flag.startsWith(name))!.slice(name.length).split(",");
  for (const name of ["--allow-read=", "--allow-write="]) {
    assertEquals(listOf(name).includes("/tmp/a/why"), true);
  }
  assertEquals(listOf("--allow-env=").includes("FIRN_WHY"), true);
  // Whoever has it without a launcher.
  assertEquals(flagsOf("finetune", { FIRN_WHY: "/tmp/a/why" }), flagsOf("finetune"));
});

Deno.test("a rank reads the file of its --config, and what that names", async () => {
  await inFolder(async (root) => {
    Deno.writeTextFileSync(`${root}/run.toml`, 'out = "of-the-file"\n');
    const standIns = import.meta.resolve("@std/assert").startsWith("file:");
    const { stdout, stderr } = await new Deno.Command("sh", {
      args: [
        "-c",
        `"$0" run -q --no-config --no-lock -A examples/cli.ts --shell finetune --config ${root}/run.toml`,
        Deno.execPath(),
      ],
      cwd: ROOT,
      env: {
        OMPI_COMM_WORLD_SIZE: "2",
        FIRN_MPI_LIBRARY: "/lib/mpi.so",
        FIRN_FLAGS: standIns ? "--import-map=tests/stand_ins/import_map.json" : "",
      },
    }).output();
    const text = new TextDecoder();
    assertStringIncludes(text.decode(stdout), "of-the-file", text.decode(stderr));
  });
});
