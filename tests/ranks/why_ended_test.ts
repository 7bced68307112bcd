/**
 * What stands last on the terminal where ranks end early: why the first of them did.
 *
 * @module
 */

import { assertEquals, assertMatch } from "@std/assert";
import { inFolder } from "../data/files.ts";
import { ROOT, run, script } from "../shell.ts";

const text = new TextDecoder();

/** Runs `./firn ranks 2 finetune` with a program in place of `mpirun`; a script may start it. */
async function underMpirun(
  body: string,
  { by = "exec sh firn ranks 2 finetune" }: { readonly by?: string } = {},
): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }> {
  let ended: Deno.CommandOutput | null = null;
  await inFolder((root) => {
    Deno.copyFileSync(new URL("firn", ROOT), `${root}/firn`);
    Deno.writeTextFileSync(`${root}/deno.lock`, "");
    Deno.mkdirSync(`${root}/bin`);
    script(
      `${root}/bin/deno`,
      '#!/bin/sh\ncase "$*" in --version) echo deno 2.9.6 ;; "") eval "$RANK" ;; esac\n',
    );
    const version = 'case "$*" in --version) echo "mpirun (Open MPI) 5.0.3" && exit ;; esac';
    script(`${root}/bin/mpirun`, `#!/bin/sh\n${version}\n${body}\n`);
    ended = run(root, ["-c", by], { FIRN_MPI_LIBRARY: "/lib/mpi.so", TMPDIR: root });
    const left = [...Deno.readDirSync(root)].map(({ name }) => name).filter((name) => name !== ".deno");
    assertEquals(left.toSorted(), [
      "bin",
      "deno.lock",
      "firn",
    ]);
    return Promise.resolve();
  });
  const { code, stdout, stderr } = ended!;
  return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}

Deno.test("firn ranks says last why the first rank failed, and exits as mpirun does", async () => {
  const failed = await underMpirun('echo "rank 1 ended all: it broke" >"$FIRN_WHY"; echo noise >&2; exit 3');
  assertEquals([failed.code, failed.stderr], [3, "noise\nfirn: rank 1 ended all: it broke\n"]);
  assertEquals(await underMpirun("echo trained"), { code: 0, stdout: "trained\n", stderr: "" });
});

Deno.test("a signal to firn ranks is one to mpirun, whose end is waited for", async () => {
  const signalled = (body: string) =>
    underMpirun(`trap '${body}' TERM; touch begun; while :; do sleep 0.05; done`, {
      by:
        "sh firn ranks 2 finetune & while ! [ -e begun ]; do sleep 0.05; done; rm begun; kill -TERM $!; wait $!",
    });
  const saved = await signalled('echo "rank 0 ended all: step 3 is saved" >"$FIRN_WHY"; sleep 0.2; exit 1');
  assertEquals([saved.code, saved.stderr], [1, "firn: rank 0 ended all: step 3 is saved\n"]);
  const lost = await signalled("exit 143");
  assertEquals(lost.code, 143);
  assertMatch(
    lost.stderr,
    /^firn: a signal ended all before a step was saved: --resume goes on from the last checkpoint, if there is one$/m,
  );
});

Deno.test("what rank 0 prints while a signal ends all is printed, and help says what ranks are", async () => {
  // As mpirun does, the signal goes to all processes of the rank.
  const rank = `trap : TERM; kill -TERM 0; sleep 0.1; echo "the last line"`;
  const started = `OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=0 RANK='${rank}' setsid -w sh firn finetune`;
  const { code, stdout } = await underMpirun(started);
  assertEquals([code, stdout], [0, "the last line\n"]);

  const help = await underMpirun("exit 9", { by: "sh firn ranks --help" });
  assertMatch(help.stdout, /^usage: \.\/firn ranks N COMMAND \[flags\]/);
  const bare = await underMpirun("exit 9", { by: "sh firn ranks" });
  assertEquals([bare.code, bare.stdout, bare.stderr], [2, "", help.stdout]);
  const none = await underMpirun("exit 9", { by: "sh firn ranks 2 ssm" });
  assertMatch(none.stderr, /^firn: ranks run finetune, .* or lora: got "ssm"\n$/);
});

/** A rank that fails with a reason, in a process that may do what the launcher of a rank allows. */
function failing(rank: number, { root, reason }: { readonly root: string; readonly reason: string | null }) {
  const standIns = import.meta.resolve("@std/assert").startsWith("file:");
  const error = reason === null
    ? "new Deno.errors.BrokenPipe()"
    : `new InputError(${JSON.stringify(reason)})`;
  const source = `import { InputError } from "@firn/train"; import { runMain } from "./examples/flags.ts";
    await runMain(() => Promise.reject(${error}), "finetune");`;
  return new Deno.Command("sh", {
    args: [
      "-c",
      'program=$1 && shift && printf %s "$program" | "$0" run --quiet --no-check "$@" -',
      Deno.execPath(),
      source,
      "--allow-env=FIRN_WHY,OMPI_COMM_WORLD_RANK",
      `--allow-read=.,${root}/why`,
      `--allow-write=${root}/why`,
      ...standIns ? ["--import-map=tests/stand_ins/import_map.json"] : [],
    ],
    cwd: ROOT,
    env: { NO_COLOR: "1", FIRN_WHY: `${root}/why`, OMPI_COMM_WORLD_RANK: `${rank}` },
  }).output();
}

Deno.test("a rank that cannot note why it ends, as on another host, says it all the same", async () => {
  const { stderr } = await failing(1, { root: "/no/such/folder", reason: "no memory" });
  assertEquals(text.decode(stderr), "finetune: no memory\n");
});

Deno.test("of ranks that fail for one reason, rank 0 says it; another reason is said, too", async () => {
  await inFolder(async (root) => {
    // Nobody reads what this one prints: that is no reason, and those of others count.
    assertEquals(text.decode((await failing(0, { root, reason: null })).stderr), "");
    const all = await Promise.all([
      failing(0, { root, reason: "no such flag" }),
      failing(1, { root, reason: "no such flag" }),
      failing(2, { root, reason: "no memory" }),
    ]);
    assertEquals(all.map(({ stderr }) => text.decode(stderr)), [
      "finetune: no such flag\n",
      "",
      "finetune: no memory\n",
    ]);
    assertEquals(Deno.readTextFileSync(`${root}/why`), "rank 0 ended all: finetune: no such flag\n");
  });
});
