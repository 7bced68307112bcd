/**
 * Which launcher started a process, and what a process without one is told.
 *
 * @module
 */

import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { InputError } from "@firn/train";
import { launchedBy, openRanks } from "@firn/train/ranks";
import { strangersText } from "../../core/ranks/open_ranks.ts";
import { agreeOn } from "../../examples/ranks.ts";
import { inFolder } from "../data/files.ts";
import { ROOT, run, script } from "../shell.ts";
import { ranksInProcess } from "./in_process.ts";

const launchedWith = (environment: Record<string, string>) => launchedBy((name) => environment[name]);

Deno.test("launchedBy knows the environments of Open MPI, MPICH and Slurm", () => {
  assertEquals(launchedWith({ OMPI_COMM_WORLD_SIZE: "4", OMPI_COMM_WORLD_RANK: "3" }), {
    launcher: "Open MPI",
    size: 4,
    rank: 3,
  });
  assertEquals(launchedWith({ PMI_SIZE: "2", PMI_RANK: "0" }), { launcher: "MPICH", size: 2, rank: 0 });
  assertEquals(launchedWith({ SLURM_STEP_NUM_TASKS: "8", SLURM_PROCID: "7" }), {
    launcher: "Slurm",
    size: 8,
    rank: 7,
  });
});

Deno.test("what srun --mpi=pmi2 started is of Slurm, and what MPICH started in a job of Slurm is of MPICH", () => {
  const slurm = { SLURM_STEP_NUM_TASKS: "8", SLURM_PROCID: "7" };
  assertEquals(launchedWith({ ...slurm, PMI_SIZE: "8", PMI_RANK: "7" }), {
    launcher: "Slurm",
    size: 8,
    rank: 7,
    pmi: true,
  });
  assertEquals(launchedWith({ ...slurm, PMI_SIZE: "64", PMI_RANK: "7" })?.launcher, "MPICH");
  assertEquals(
    launchedWith({ ...slurm, OMPI_COMM_WORLD_SIZE: "8", OMPI_COMM_WORLD_RANK: "7" })?.launcher,
    "Open MPI",
  );
});

Deno.test("firn takes the library that is there for what Slurm started, and names the variable where there is none", async () => {
  await inFolder((root) => {
    Deno.copyFileSync(new URL("firn", ROOT), `${root}/firn`);
    Deno.writeTextFileSync(`${root}/deno.lock`, "");
    for (const name of ["bin", "lib"]) Deno.mkdirSync(`${root}/${name}`);
    script(
      `${root}/bin/deno`,
      `#!/bin/sh\ncase "$*" in --version) echo deno 2.9.6 ;; *cli.ts*) echo "echo $FIRN_MPI_LIBRARY; exit" ;; esac\n`,
    );
    const firn = (env: Record<string, string>, libraries: readonly string[]): string => {
      for (const name of libraries) Deno.writeTextFileSync(`${root}/lib/${name}`, "");
      const lines = libraries.map((name) => `echo "\t${name} (libc6,x86-64) => ${root}/lib/${name}"`);
      script(`${root}/bin/ldconfig`, `#!/bin/sh\n${lines.join("\n")}\n`);
      const { stdout, stderr } = run(root, ["firn", "finetune"], env), text = new TextDecoder();
      return (text.decode(stdout) + text.decode(stderr)).trim().replace(
        `${Deno.realPathSync(root)}/lib/`,
        "",
      );
    };
    const srun = { SLURM_STEP_NUM_TASKS: "2", SLURM_PROCID: "0" },
      pmi2 = { ...srun, PMI_SIZE: "2", PMI_RANK: "0" };
    assertEquals(firn(pmi2, ["libmpi.so.40"]), "libmpi.so.40");
    assertEquals(firn(pmi2, ["libmpi.so.40", "libmpich.so.12"]), "libmpich.so.12");
    assertEquals(firn(srun, ["libmpi.so.40", "libmpich.so.12"]), "libmpi.so.40");
    assertMatch(
      firn(pmi2, []),
      /^firn: the library of MPI is missing, .*: set FIRN_MPI_LIBRARY to that of the MPI whose/,
    );
    return Promise.resolve();
  });
});

Deno.test("processes that do not see each other are told how to start under Slurm, and which library to name elsewhere", () => {
  const told = (launcher: "Slurm" | "MPICH") =>
    strangersText({ launcher, size: 2, rank: 0 }, { version: "Open MPI v4.1.4", seen: 1 });
  assertMatch(
    told("Slurm"),
    /^Cannot join other ranks as Slurm started 2 processes, and Open MPI v4.1.4 sees 1: /,
  );
  assertMatch(told("Slurm"), /start it by srun --mpi=pmix, .* by FIRN_MPI_LIBRARY$/);
  assertMatch(told("MPICH"), /name it by FIRN_MPI_LIBRARY, or take the other's mpirun$/);
});

Deno.test("launchedBy takes nothing else for a launcher: a batch script of Slurm, half of the variables, nonsense", () => {
  assertEquals(launchedWith({ SLURM_NTASKS: "8", SLURM_PROCID: "0" }), null);
  assertEquals(launchedWith({ PMI_SIZE: "2" }), null);
  assertEquals(launchedWith({ PMI_SIZE: "2", PMI_RANK: "2" }), null);
  assertEquals(launchedWith({ PMI_SIZE: "two", PMI_RANK: "0" }), null);
  assertEquals(launchedWith({}), null);
});

Deno.test("openRanks refuses a timeout that is none, and says what to allow where it may not look", async () => {
  await assertRejects(() => openRanks({ timeout: 0 }), InputError, '"timeout" must be seconds above 0');
  await assertRejects(() => openRanks(), InputError, "--allow-env=FIRN_MPI_LIBRARY,OMPI_COMM_WORLD_SIZE");
});

Deno.test("a run that has all permissions and that no launcher started trains alone", async () => {
  const standIns = import.meta.resolve("@std/assert").startsWith("file:");
  const { stdout, stderr } = await new Deno.Command("sh", {
    args: [
      "-c",
      'program=$1 && shift && echo "$program" | "$0" run --quiet --no-check --allow-env "$@" -',
      Deno.execPath(),
      'import { joinRanks } from "./examples/ranks.ts"; console.log(await joinRanks());',
    ].concat(standIns ? ["--import-map=tests/stand_ins/import_map.json"] : []),
    cwd: new URL("../../", import.meta.url),
    env: { NO_COLOR: "1" },
  }).output();
  const text = new TextDecoder();
  assertEquals(text.decode(stdout), "null\n", text.decode(stderr));
});

Deno.test("ranks are refused the cache of a prefix by the name of its flag, before any of them joins", async () => {
  const standIns = import.meta.resolve("@std/assert").startsWith("file:");
  const { stdout } = await new Deno.Command("sh", {
    args: [
      "-c",
      'program=$1 && shift && echo "$program" | "$0" run --quiet --no-check --allow-env "$@" -',
      Deno.execPath(),
      'import { joinRanks } from "./examples/ranks.ts"; await joinRanks({ "cache-prefix": true }).catch((e) => console.log(e.message));',
    ].concat(standIns ? ["--import-map=tests/stand_ins/import_map.json"] : []),
    cwd: new URL("../../", import.meta.url),
    env: { OMPI_COMM_WORLD_SIZE: "2", OMPI_COMM_WORLD_RANK: "0", FIRN_MPI_LIBRARY: "/lib/none.so" },
  }).output();
  assertEquals(
    new TextDecoder().decode(stdout),
    "--cache-prefix is for one process: drop it, or ./firn ranks\n",
  );
});

Deno.test("ranks that were started with other flags are refused on all ranks, before any trains", async () => {
  const same = ranksInProcess(3).map((ranks) => agreeOn(ranks, { flags: "lr = 1", data: "a" }));
  await Promise.all(same);
  const facts = [{ flags: "lr = 1", data: "a" }, { flags: "lr = 1", data: "a" }, {
    flags: "lr = 2",
    data: "a",
  }];
  const others = ranksInProcess(3).map((ranks, i) => agreeOn(ranks, facts[i]));
  for (const other of others) {
    await assertRejects(() => other, InputError, "rank 2 differs from rank 0 in flags; start all alike");
  }
});
