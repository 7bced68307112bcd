/**
 * Sums through memory that the ranks of a host share, with the MPI of this machine.
 *
 * @module
 */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { dawnTest } from "../dawn/software.ts";
import { denoCommand } from "../examples/process.ts";

/** How `mpirun` is started, and which library is its own; null where there is no MPI. */
async function mpiHere(): Promise<{ readonly mpirun: string; readonly library: string } | null> {
  const { text } = await shell(
    "mpirun --version 2>&1; ldconfig -p | sed -n 's#.*\\(libmpi.so.40\\|libmpich.so.12\\) .*=> #library #p'",
  );
  const isOpen = /open ?mpi|OpenRTE/i.test(text), isMpich = /hydra/i.test(text);
  const library = new RegExp(`^library (.*/${isOpen ? "libmpi.so.40" : "libmpich.so.12"})$`, "m").exec(text)
    ?.[1];
  if (library === undefined || !(isOpen || isMpich)) return null;
  return { mpirun: `mpirun ${isOpen ? "--allow-run-as-root --oversubscribe" : ""}`, library };
}

async function shell(command: string): Promise<{ readonly code: number; readonly text: string }> {
  const { code, stdout, stderr } = await new Deno.Command("sh", {
    args: ["-c", command],
    cwd: new URL("../../", import.meta.url),
    env: { NO_COLOR: "1" },
  }).output();
  const decoder = new TextDecoder();
  return { code, text: decoder.decode(stdout) + decoder.decode(stderr) };
}

const MPI = await mpiHere();

function run(
  size: number,
  what: "sums" | "lanes" | "hosts" | "dies" | "throws" | "exits",
): ReturnType<typeof shell> {
  const { mpirun, library } = MPI!, env = "FIRN_MPI_LIBRARY";
  // As much as a program of one's own needs; a rank that dies must ask the system for it.
  const permissions = [
    `--allow-ffi=${library}`,
    `--allow-env=${env}`,
    ...what === "dies" ? ["--allow-run"] : [],
  ];
  const program = denoCommand([
    "--no-check",
    "--no-prompt",
    ...permissions,
    "tests/ranks/shared_sum_rank.ts",
    what,
  ]);
  return shell(`${env}=${library} ${mpirun} -n ${size} ${program.join(" ")}`);
}

const ofHost = "of a host, where none shares memory if one cannot,";
for (
  const [size, what, how] of [
    [2, "sums", ofHost],
    [3, "sums", ofHost],
    [4, "sums", ofHost],
    [2, "lanes", "by several threads each"],
    [4, "hosts", "of two hosts"],
  ] as const
) {
  Deno.test({
    name: `${size} ranks ${how} get the sums of one process, bit for bit`,
    ignore: MPI === null,
    async fn() {
      const { code, text } = await run(size, what);
      assertEquals(code, 0, text);
      assertStringIncludes(text, `${size} ranks agree`);
    },
  });
}

Deno.test({
  name: "a rank that others wait for in shared memory is named, and its death ends all",
  ignore: MPI === null,
  async fn() {
    const began = performance.now(), { code, text } = await run(2, "dies");
    assertStringIncludes(
      text,
      "Cannot sum across 2 ranks as all must come within 1.5 s: rank 0 waited for rank 1",
    );
    assert(
      code !== 0 && performance.now() - began < 15_000,
      `exit ${code} after ${performance.now() - began} ms`,
    );
  },
});

for (const what of ["throws", "exits"] as const) {
  Deno.test({
    name:
      `a rank whose lanes wait for one that is late ends at once where its program ${what}, and all with it`,
    ignore: MPI === null,
    async fn() {
      const began = performance.now(), { code, text } = await run(2, what);
      assertStringIncludes(text, "as all must come within 1.5 s: rank 0 waited for rank 1");
      const ms = performance.now() - began;
      assert(code !== 0 && ms < 15_000, `exit ${code} after ${ms} ms`);
    },
  });
}

if (MPI !== null) {
  dawnTest(
    "ranks on Dawn add up mapped memory of which JavaScript sees no more than the address",
    async (driver) => {
      const { mpirun, library } = MPI;
      const program = denoCommand([
        ...["--no-check", "--no-prompt", "--allow-ffi", "--allow-env", "--allow-read"],
        "tests/ranks/mapped_sum_rank.ts",
      ]);
      const { code, text } = await shell(
        `FIRN_MPI_LIBRARY=${library} VK_DRIVER_FILES=${driver} ${mpirun} -n 2 ${program.join(" ")}`,
      );
      assertEquals(code, 0, text);
      // There and back, 8 bytes of each of 8 buckets, and all of the small one.
      const shown = [...text.matchAll(/^shown (\d+)$/gm)].map(([, bytes]) => Number(bytes));
      assertEquals(shown, [2 * (8 * 8 + 2 ** 12), 2 * (8 * 8 + 2 ** 12)], text);
    },
  );
}
