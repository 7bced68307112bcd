/**
 * What an exchange costs between two hosts: network namespaces of this machine with a line between them that has the speed and
 * the length of a real one, each with one rank under Open MPI. Beside each time stands that of paper.
 *
 * ```sh
 * ./firn deno run -A tests/bench/network.ts --markdown
 * ```
 *
 * It needs root, `ip`, Python, Open MPI 4 and about three minutes on two idle cores, and leaves nothing behind.
 *
 * @module
 */

import { readFlags, runMain, toggle, UsageError, whole } from "../../examples/flags.ts";
import { helpOf } from "../../examples/help.ts";
import { print } from "../../examples/print.ts";
import { LIBRARY_VARIABLE } from "@firn/train/ranks";
import { tableLines } from "../ranks/exchange_table.ts";
import type { Asked, Measured } from "./network_rank.ts";

const FLAGS = {
  gigabits: whole("speed of the line in Gbit/s", 1),
  delay: whole("how long it is besides: milliseconds from one host to the other", 50),
  eager: whole("bytes of a message that Open MPI sends without asking; its default is 65536", 2 ** 25),
  batch: whole("rows of 16 tokens in a batch of a rank", 1),
  markdown: toggle("print the table as Markdown"),
};

const USAGE = `usage: ./firn deno run -A tests/bench/network.ts [flags]

Times exchanges between two network namespaces, first over a line of that speed, then over one that is that long, too.`;

const ROOT = new URL("../../", import.meta.url);

/** Hosts, and what they are called in the network. */
const HOSTS = [["firn-net-a", "10.77.0.1"], ["firn-net-b", "10.77.0.2"]] as const;

async function command(...words: readonly string[]): Promise<string> {
  const [program, ...args] = words;
  const { success, stdout, stderr } = await new Deno.Command(program, { args }).output();
  const text = new TextDecoder();
  if (!success) throw new UsageError(`"${words.join(" ")}" failed: ${text.decode(stderr).trim()}`);
  return text.decode(stdout);
}

/** Makes two hosts with a line between them, until it is disposed of. */
async function twoHosts(
  { gigabits, delay }: { readonly gigabits: number; readonly delay: number },
): Promise<AsyncDisposable> {
  await using stack = new AsyncDisposableStack();
  for (const [host] of HOSTS) {
    await command("ip", "netns", "del", host).catch(() => {});
    await command("ip", "netns", "add", host);
    stack.defer(async () => void await command("ip", "netns", "del", host));
  }
  const line = new Deno.Command("python3", {
    args: ["tests/bench/network_line.py", ...HOSTS.flat(), `${gigabits * 1e9}`, `${delay / 1000}`],
    cwd: ROOT,
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  stack.defer(async () => {
    await line.stdin.close();
    await line.stdout.cancel();
    await line.status;
  });
  const reader = line.stdout.getReader(), { done } = await reader.read();
  reader.releaseLock();
  if (done) throw new UsageError("the line between two namespaces could not be made: see above");
  for (const [host] of HOSTS) {
    const set = (setting: string) => command("ip", "netns", "exec", host, "sysctl", "-qw", setting);
    // As hosts are set up that are far apart: windows as large as what is on its way.
    for (const name of ["tcp_rmem", "tcp_wmem"]) await set(`net.ipv4.${name}=4096 4194304 134217728`);
    await set("net.ipv4.tcp_slow_start_after_idle=0");
  }
  return stack.move();
}

/** Runs one rank on each host; returns what the first printed. */
async function measure(asked: Asked, eager: number): Promise<readonly Measured[]> {
  const [[a]] = HOSTS, folder = await Deno.makeTempDir({ prefix: "firn-network-" });
  // What Open MPI starts a host's processes with, as it would by ssh.
  const agent = `${folder}/agent.sh`, cases = HOSTS.map(([host, address]) => `${address}) host=${host} ;;`);
  await Deno.writeTextFile(
    agent,
    `#!/bin/sh\ncase $1 in ${cases.join(" ")} esac\nshift\nexec ip netns exec "$host" sh -c "$*"\n`,
    { mode: 0o755 },
  );
  const library = (await command("sh", "-c", "ldconfig -p | sed -n 's|.*libmpi.so.40 .*=> ||p' | head -n 1"))
    .trim();
  const flags = (Deno.env.get("FIRN_FLAGS") ?? "").split(" ").filter((word) => word !== "");
  const rank = ["run", ...flags, ...importMap(), "--no-check", "-A", "tests/bench/network_rank.ts"];
  const { success, stdout, stderr } = await new Deno.Command("ip", {
    args: [
      ...["netns", "exec", a, "mpirun", "--allow-run-as-root", "-n", "2", "--map-by", "node"],
      ...["--host", HOSTS.map(([, address]) => address).join(), "--mca", "plm_rsh_agent", agent],
      ...["--mca", "btl", "tcp,self", "--mca", "pml", "ob1", "--mca", "btl_tcp_if_include", "line"],
      // Sent at once: what is larger is announced first, which takes there and back twice as long.
      ...["--mca", "btl_tcp_eager_limit", `${eager}`, "--mca", "btl_tcp_rndv_eager_limit", `${eager}`],
      ...["--mca", "oob_tcp_if_include", "line", "--mca", "mpi_yield_when_idle", "1"],
      ...["-x", `${LIBRARY_VARIABLE}=${library}`, "-x", "PATH", "-x", "XDG_RUNTIME_DIR"],
      ...["-x", "DENO_WEBGPU_BACKEND=vulkan", Deno.execPath(), ...rank, JSON.stringify(asked)],
    ],
    cwd: ROOT,
  }).output();
  await Deno.remove(folder, { recursive: true });
  const text = new TextDecoder();
  if (!success) throw new UsageError(`ranks failed: ${text.decode(stderr)}`);
  return text.decode(stdout).trim().split("\n").map((line) => JSON.parse(line));
}

/** Ranks need stand-ins of packages where this program does. */
function importMap(): string[] {
  return import.meta.resolve("@std/assert").startsWith("file:")
    ? ["--import-map=tests/stand_ins/import_map.json"]
    : [];
}

async function main(): Promise<void> {
  const { values: { gigabits, delay, eager, batch, markdown }, help } = readFlags(Deno.args, FLAGS);
  if (help) return print(helpOf(USAGE, FLAGS));
  const heads = [
    "line",
    "exchange",
    "frozen",
    "MB an exchange",
    "on paper",
    "measured",
    "a step alone",
    "with it",
  ];
  const rows: string[][] = [];
  const ms = (value: number): string => value.toFixed(value < 10 ? 1 : 0);
  for (const length of [0, delay]) {
    await using _hosts = await twoHosts({ gigabits, delay: length });
    const line = `${gigabits} Gbit/s${length === 0 ? "" : `, ${length} ms`}`;
    const asked = { bitsPerSecond: gigabits * 1e9, latency: length / 1000, batch };
    for (const { name, frozen, bytes, paperMs, exchangeMs, aloneMs, stepMs } of await measure(asked, eager)) {
      const numbers = [bytes / 1e6].map((n) => n.toFixed(2)).concat(
        [paperMs, exchangeMs, aloneMs, stepMs].map(ms),
      );
      rows.push([line, name, frozen ? "half" : "none", ...numbers]);
      if (!markdown) print(rows.at(-1)!.map((cell) => cell.padStart(16)).join("  "));
    }
  }
  if (markdown) print(tableLines(heads, rows).join("\n"));
}

if (import.meta.main) await runMain(main, "network");
