/**
 * Which GPU a process gets, on machines that are folders.
 *
 * @module
 */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { InputError, NotFoundError, openGpu } from "@firn/train";
import { handingOf, pciAddress, type PciGpu, pciGpus } from "../../core/host/pci_gpus.ts";
import { chosenGpu } from "../../core/runtime/chosen_gpu.ts";
import { shellLines } from "../../examples/cli.ts";
import { type DevicePlan, devicePlan, LaunchError } from "../../examples/device_plan.ts";
import { type Machine, thisMachine } from "../../examples/machine.ts";
import { inFolder } from "../data/files.ts";
import { ROOT, run, script } from "../shell.ts";
import { type FakeDevice, fakeGpus, MESA, TWINS } from "./fake_gpus.ts";

const linux = Deno.build.os === "linux";

/** Works on the GPUs of a machine. */
async function onMachine(
  devices: readonly FakeDevice[],
  work: (gpus: readonly PciGpu[], root: string) => void | Promise<void>,
): Promise<void> {
  await inFolder(async (root) => {
    fakeGpus(root, devices);
    await work(pciGpus({ root }), root);
  });
}

/** A machine with some GPUs and variables. */
function machineWith(all: readonly PciGpu[], env: Readonly<Record<string, string>>, views = true): Machine {
  return {
    ...thisMachine(),
    os: "linux",
    env: (name) => env[name],
    gpus: () => Promise.resolve({ all, handingOf, pciAddress }),
    succeeds: () => views,
  };
}

/** Ranks of Open MPI on one machine. */
const openMpi = (size: number) =>
  Array.from({ length: size }, (_, rank) => ({
    OMPI_COMM_WORLD_RANK: `${rank}`,
    OMPI_COMM_WORLD_LOCAL_RANK: `${rank}`,
    OMPI_COMM_WORLD_LOCAL_SIZE: `${size}`,
  }));

const planOf = (
  gpus: readonly PciGpu[],
  env: Readonly<Record<string, string>>,
  args: readonly string[] = [],
): Promise<DevicePlan | null> =>
  devicePlan(args, { machine: machineWith(gpus, env), ranked: "RANKED" in env });

Deno.test("a PCI address is read as lspci, nvidia-smi and the kernel write it, and nothing else is", () => {
  for (const text of ["0000:00:07.0", "00:07.0", "00000000:00:07.0"]) {
    assertEquals(pciAddress(text), "0000:00:07.0");
  }
  assertEquals(pciAddress("00000001:3B:1F.7"), "0001:3b:1f.7");
  for (const text of ["", "0", "GPU-e63e", "0000:00:07", "0000:00:27.0", "0000:00:07.8", "a0000:00:07.0"]) {
    assertEquals(pciAddress(text), null, text);
  }
});

Deno.test("pciGpus lists what has a driver that computes: no console, no network card, nothing without a driver", async () => {
  await onMachine(TWINS, (gpus, root) => {
    assertEquals(gpus, [
      {
        address: "0000:00:06.0",
        model: "10de:2335",
        driver: "nvidia",
        nodes: [`${root}/dev/nvidia1`],
        visible: true,
      },
      {
        address: "0000:00:07.0",
        model: "10de:2335",
        driver: "nvidia",
        nodes: [`${root}/dev/nvidia0`],
        visible: true,
      },
    ]);
    // In a container that has one of them, and under a launcher that hid it.
    Deno.removeSync(`${root}/dev/nvidia1`);
    assertEquals(pciGpus({ root }).map(({ visible }) => visible), [false, true]);
    Deno.linkSync(`${root}/dev/null`, `${root}/dev/nvidia1`);
    assertEquals(pciGpus({ root }).map(({ visible }) => visible), [false, true]);
  });
  await onMachine(MESA, (gpus, root) => {
    assertEquals(gpus.map(({ driver }) => driver), ["i915", "amdgpu", "amdgpu"]);
    assertEquals(gpus[1].nodes, ["renderD129", "card1"].map((name) => `${root}/dev/dri/${name}`));
  });
  await onMachine([], (gpus) => assertEquals(gpus, []));
});

Deno.test("each rank gets the next GPU, which ranks share when there are more; each launcher names it in its own way", async () => {
  await onMachine(TWINS, async (gpus, root) => {
    const plans = await Promise.all(openMpi(3).map((env) => planOf(gpus, { ...env, RANKED: "" })));
    assertEquals(plans.map((plan) => plan?.env), [
      { FIRN_DEVICE: "0000:00:06.0/10de:2335" },
      { FIRN_DEVICE: "0000:00:07.0/10de:2335" },
      { FIRN_DEVICE: "0000:00:06.0/10de:2335" },
    ]);
    assertEquals(plans.map((plan) => plan?.through.filter((word) => word.startsWith(root))), [
      [`${root}/dev/nvidia0`],
      [`${root}/dev/nvidia1`],
      [`${root}/dev/nvidia0`],
    ]);
    assertEquals(plans.map((plan) => plan?.said), [
      "rank 0 has the GPU at 0000:00:06.0, which 2 ranks share, as 3 ranks have 2 here",
      "rank 1 has the GPU at 0000:00:07.0",
      "rank 2 has the GPU at 0000:00:06.0, which 2 ranks share, as 3 ranks have 2 here",
    ]);
    for (const name of ["MPI_LOCALRANKID", "PMI_LOCAL_RANK", "PALS_LOCAL_RANKID", "SLURM_LOCALID"]) {
      const plan = await planOf(gpus, { RANKED: "", [name]: "5", PMI_RANK: "21" });
      assertEquals(plan?.said, "rank 21 has the GPU at 0000:00:07.0", name);
    }
    // One process alone takes what its driver gives, in a job of Slurm, too.
    assertEquals(await planOf(gpus, { SLURM_LOCALID: "0" }), null);
    assertEquals(await planOf([], { RANKED: "", SLURM_LOCALID: "0" }), null);
    // A job of Slurm may open one of them, which all of its ranks on this machine get.
    const machine = machineWith(gpus, { SLURM_JOB_ID: "7", SLURM_LOCALID: "0", SLURM_PROCID: "4" });
    const opens = (node: string): boolean => node === gpus[1].nodes[0];
    const task = await devicePlan([], { machine: { ...machine, opens }, ranked: true });
    assertEquals([task?.said, task?.through], ["rank 4 has the GPU at 0000:00:07.0", []]);
    // Of one GPU nothing is hidden, and it is said.
    const alone = await planOf(gpus.slice(0, 1), { RANKED: "", ...openMpi(2)[1] });
    assertEquals(alone?.through, []);
    assertEquals(
      alone?.said,
      "rank 1 has the GPU at 0000:00:06.0, which 2 ranks share, as 2 ranks have 1 here",
    );
  });
});

Deno.test("ranks get GPUs of one model, Mesa's by variables that its device-select layer reads", async () => {
  await onMachine(MESA, async (gpus) => {
    const plans = await Promise.all(openMpi(2).map((env) => planOf(gpus, { ...env, RANKED: "" })));
    assertEquals(plans.map((plan) => plan?.env.DRI_PRIME), ["pci-0000_03_00_0", "pci-0001_03_00_0"]);
    assertEquals(plans.map((plan) => plan?.through), [[], []]);
    assertEquals(plans[1]?.env, {
      DRI_PRIME: "pci-0001_03_00_0",
      MESA_VK_DEVICE_SELECT_FORCE_DEFAULT_DEVICE: "1",
      FIRN_DEVICE: "0001:03:00.0/1002:744c",
    });
  });
});

Deno.test("--device gives a process that GPU, ranks those of a list, and says what there is where there is none", async () => {
  await onMachine(TWINS, async (gpus, root) => {
    const one = await planOf(gpus, {}, ["--device", "00:07.0"]);
    assertEquals([one?.env, one?.said], [{ FIRN_DEVICE: "0000:00:07.0/10de:2335" }, undefined]);
    assertEquals(one?.through.slice(0, 2), ["unshare", "--mount"]);
    const last = await planOf(gpus, { RANKED: "", ...openMpi(2)[1] }, ["--device=00:06.0,00:07.0"]);
    assertEquals(last?.env.FIRN_DEVICE, "0000:00:07.0/10de:2335");
    const refused: readonly (readonly [string, string])[] = [
      [
        "7",
        'PCI address of a GPU, such as 0000:00:07.0: got "7"; this machine has 0000:00:06.0 (nvidia, 10de:2335), 0000:',
      ],
      ["00:09.0", "no GPU at 0000:00:09.0: this machine has 0000:00:06.0 (nvidia"],
      ["00:06.0,00:07.0", "./firn ranks 2 finetune"],
    ];
    for (const [value, text] of refused) {
      await assertRejects(() => planOf(gpus, {}, [`--device=${value}`]), LaunchError, text);
    }
    const hidden = gpus.with(0, { ...gpus[0], visible: false });
    await assertRejects(
      () => planOf(hidden, {}, ["--device=00:06.0"]),
      LaunchError,
      `${root}/dev/nvidia1 is hidden`,
    );
    // What is hidden is no longer hidden from.
    assertEquals((await planOf(hidden, {}, ["--device=00:07.0"]))?.through, []);
    // Who is not root has a namespace of users, too, across which Open MPI 4 must not read memory.
    const user = { ...machineWith(gpus, {}), succeeds: (words: readonly string[]) => words.length > 6 };
    const apart = await devicePlan(["--device=00:06.0"], { machine: user, ranked: false });
    assertEquals(apart?.through.slice(0, 4), ["unshare", "--map-current-user", "--keep-caps", "--mount"]);
    assertEquals(apart?.env.OMPI_MCA_btl_vader_single_copy_mechanism, "none");
    assertEquals(one?.env.OMPI_MCA_btl_vader_single_copy_mechanism, undefined);
    const without = machineWith(gpus, {}, false);
    await assertRejects(
      () => devicePlan(["--device=00:06.0"], { machine: without, ranked: false }),
      LaunchError,
      "must allow a private mount namespace",
    );
  });
});

Deno.test("a rank sees its own GPU and /dev/null in the place of the other, in a namespace of the system", {
  ignore: !linux ||
    !run(Deno.cwd(), [
      "-c",
      "unshare --mount mount --bind /dev/null /dev/null || unshare --map-root-user --mount true",
    ]).success,
}, async () => {
  await onMachine(TWINS, async (gpus, root) => {
    Deno.mkdirSync(`${root}/bin`);
    script(
      `${root}/bin/deno`,
      `#!/bin/sh\necho "$FIRN_DEVICE $*"\nfor n in 0 1; do test "${root}/dev/nvidia$n" -ef /dev/null && echo "nvidia$n is null"; done\nid -u\n`,
    );
    for (const [rank, hidden] of [[0, 0], [1, 1]]) {
      const machine = machineWith(gpus, openMpi(2)[rank]);
      const succeeds = (words: readonly string[]): boolean =>
        run(Deno.cwd(), ["-c", 'exec "$0" "$@"', ...words]).success;
      const plan = await devicePlan([], { machine: { ...machine, succeeds }, ranked: true });
      const launch = {
        env: plan!.env,
        through: plan!.through,
        flags: [],
        script: "a b.ts",
        args: ["--x=$HOME"],
      };
      const { stdout, stderr } = run(root, ["-c", shellLines(launch, machine)]), text = new TextDecoder();
      assertEquals(text.decode(stderr), "");
      const id = text.decode(run(root, ["-c", "id -u"]).stdout);
      assertEquals(
        text.decode(stdout),
        `${gpus[rank].address}/10de:2335 run a b.ts --x=$HOME\nnvidia${hidden} is null\n${id}`,
      );
    }
    assertEquals(pciGpus({ root }).map(({ visible }) => visible), [true, true]);
  });
});

Deno.test("openGpu refuses an address that is none, and one of a machine that has no such GPU", async () => {
  await assertRejects(
    () => openGpu({ device: "1" }),
    InputError,
    'must be a PCI address such as "0000:00:07.0": got "1"',
  );
  // These tests may not look at /sys.
  if (linux) {
    await assertRejects(() => openGpu({ device: "0000:ff:1f.7" }), InputError, "look at /sys and /dev");
  }
});

Deno.test("a process that takes another GPU than was asked for is told how to start it", async () => {
  const check = (all: readonly PciGpu[], device: string, env: Readonly<Record<string, string>> = {}) =>
    chosenGpu(device, { gpus: () => all, variable: (name) => Promise.resolve(env[name]) });
  await onMachine(TWINS, async (gpus, root) => {
    await assertRejects(
      () => check(gpus, "00:07.0"),
      InputError,
      `mount --bind /dev/null ${root}/dev/nvidia1`,
    );
    await assertRejects(
      () => check(gpus, "00:09.0"),
      NotFoundError,
      "it has 0000:00:06.0 (nvidia, 10de:2335)",
    );
    await assertRejects(() => check([], "00:09.0"), NotFoundError, "it has none with a driver");
    const hidden = gpus.with(0, { ...gpus[0], visible: false });
    await assertRejects(() => check(hidden, "00:06.0"), InputError, "it is hidden from it");
    await check(hidden, "00:07.0");
    await check([gpus[0]], "00:06.0");
    await assertRejects(
      () => check([], "00:06.0", { FIRN_DEVICE: "0000:00:07.0/10de:2335" }),
      InputError,
      'was started with that at "0000:00:07.0"',
    );
  });
  await onMachine(MESA, async (gpus) => {
    const right = handingOf(gpus[1], gpus).env;
    await check(gpus, "03:00.0", right);
    await assertRejects(
      () => check(gpus, "03:00.0"),
      InputError,
      "or with DRI_PRIME=pci-0000_03_00_0 MESA_VK",
    );
    const other = { ...right, DRI_PRIME: "pci-0000_09_00_0" };
    await assertRejects(() => check(gpus, "03:00.0", other), InputError, 'it is "pci-0000_09_00_0"');
  });
});

Deno.test("an adapter of another vendor or model is refused: a driver that cannot choose gives another without a word", async () => {
  const info = (vendor: string, device: string) =>
    ({ vendor, device, description: "seen" }) as GPUAdapterInfo;
  const variable = () => Promise.resolve("0000:00:07.0/10de:2335");
  const check = await chosenGpu("0000:00:07.0", { gpus: () => [], variable });
  check(info("4318", "9013")); // Deno's numbers of 10de and 2335.
  check(info("4318", ""));
  check(info("nvidia", "nvidia-h200"));
  for (const [vendor, device] of [["65541", "0"], ["4318", "9014"], ["4098", "9013"], ["mesa", "llvmpipe"]]) {
    let seen: unknown = null;
    try {
      check(info(vendor, device));
    } catch (error) {
      seen = error;
    }
    assert(
      seen instanceof NotFoundError && seen.message.includes('WebGPU has "seen"'),
      `${vendor} ${device}`,
    );
  }
});

Deno.test("firn ranks binds no rank to one core, and a rank that another launcher bound so is told", {
  ignore: !linux,
}, async () => {
  await inFolder((root) => {
    Deno.copyFileSync(new URL("firn", ROOT), `${root}/firn`);
    Deno.mkdirSync(`${root}/bin`);
    script(
      `${root}/bin/deno`,
      '#!/bin/sh\ncase "$*" in --version) echo deno 2.9.6 ;; *cli.ts*) echo exec true ;; esac\n',
    );
    script(`${root}/bin/nproc`, '#!/bin/sh\ntest "$1" && echo 8 || echo "${CORES}"\n');
    script(
      `${root}/bin/mpirun`,
      '#!/bin/sh\ncase "$*" in --version) echo "mpirun (Open MPI) 5.0.3" ;; *) echo "$*" ;; esac\n',
    );
    const firn = (args: readonly string[], env: Record<string, string> = {}): string => {
      const { stdout, stderr } = run(root, ["firn", ...args], { FIRN_MPI_LIBRARY: "/lib/mpi.so", ...env });
      return new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
    };
    assertMatch(firn(["ranks", "2", "finetune"]), /^-n 2 .*--bind-to none/);
    const rank = { OMPI_COMM_WORLD_SIZE: "2", OMPI_COMM_WORLD_RANK: "1" };
    assertMatch(firn(["finetune"], { ...rank, CORES: "1" }), /bound this rank to one core.*--bind-to none/);
    assertEquals(firn(["finetune"], { ...rank, CORES: "4" }).includes("bound"), false);
    return Promise.resolve();
  });
});
