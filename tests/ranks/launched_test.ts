/**
 * Which launcher started a process, and what a process without one is told.
 *
 * @module
 */

import { assertEquals, assertRejects } from "@std/assert";
import { InputError } from "@firn/train";
import { launchedBy, openRanks } from "@firn/train/ranks";
import { agreeOn } from "../../examples/ranks.ts";
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
