/**
 * A machine with GPUs, as the kernel would show it in a folder.
 *
 * @module
 */

/** A device on the bus. */
export interface FakeDevice {
  readonly address: string;
  /** Its class, `"0x030000"` of what draws. */
  readonly class?: string;
  readonly vendor: string;
  readonly device: string;
  readonly driver?: string;
  /** Its number among NVIDIA's, and its nodes of the kernel's own drivers. */
  readonly minor?: number;
  readonly drm?: readonly string[];
}

/** Two twins of NVIDIA, the second of which has the lower number, and what is no GPU. */
export const TWINS: readonly FakeDevice[] = [
  {
    address: "0000:00:06.0",
    vendor: "0x10de",
    device: "0x2335",
    class: "0x030200",
    driver: "nvidia",
    minor: 1,
  },
  {
    address: "0000:00:07.0",
    vendor: "0x10de",
    device: "0x2335",
    class: "0x030200",
    driver: "nvidia",
    minor: 0,
  },
  { address: "0000:00:02.0", vendor: "0x1a03", device: "0x2000", driver: "ast", drm: ["card0"] },
  { address: "0000:00:03.0", vendor: "0x1af4", device: "0x1000", class: "0x020000", driver: "virtio-pci" },
  { address: "0000:00:08.0", vendor: "0x10de", device: "0x2335", class: "0x030200" },
];

/** Two twins of AMD, and a graphics unit of Intel. */
export const MESA: readonly FakeDevice[] = [
  {
    address: "0000:00:02.0",
    vendor: "0x8086",
    device: "0x46a6",
    driver: "i915",
    drm: ["card0", "renderD128"],
  },
  {
    address: "0000:03:00.0",
    vendor: "0x1002",
    device: "0x744c",
    driver: "amdgpu",
    drm: ["card1", "renderD129"],
  },
  {
    address: "0001:03:00.0",
    vendor: "0x1002",
    device: "0x744c",
    driver: "amdgpu",
    drm: ["card2", "renderD130"],
  },
];

/**
 * Writes `sys`, `proc` and `dev` of a machine.
 *
 * @param root An empty folder
 * @param devices What is on its bus
 */
export function fakeGpus(root: string, devices: readonly FakeDevice[]): void {
  const write = (path: string, text: string): void => {
    Deno.mkdirSync(`${root}/${path}`.replace(/\/[^/]*$/, ""), { recursive: true });
    Deno.writeTextFileSync(`${root}/${path}`, text);
  };
  write("dev/null", "");
  for (const { address, class: kind = "0x030000", vendor, device, driver, minor, drm = [] } of devices) {
    const folder = `sys/bus/pci/devices/${address}`;
    write(`${folder}/class`, `${kind}\n`);
    write(`${folder}/vendor`, `${vendor}\n`);
    write(`${folder}/device`, `${device}\n`);
    if (driver !== undefined) {
      Deno.symlinkSync(`../../../bus/pci/drivers/${driver}`, `${root}/${folder}/driver`);
    }
    for (const name of drm) {
      write(`${folder}/drm/${name}/dev`, "226:0\n");
      write(`dev/dri/${name}`, name);
    }
    if (minor === undefined) continue;
    write(
      `proc/driver/nvidia/gpus/${address}/information`,
      `Model: \t NVIDIA H200\nDevice Minor: \t ${minor}\n`,
    );
    write(`dev/nvidia${minor}`, `${minor}`);
  }
}
