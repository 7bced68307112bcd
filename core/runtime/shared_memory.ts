/**
 * Memory of a device in which other threads work.
 *
 * @module
 */

/** Work of other threads, by the device in whose memory it is. */
const works = new WeakMap<GPUDevice, Set<Promise<unknown>>>();

/**
 * Keeps a device open while other threads work in memory that it has mapped: closing it takes that memory away.
 *
 * @param device The device
 * @param work What ends as they have left the memory, in whatever way
 */
export function worksIn(device: GPUDevice, work: Promise<unknown>): void {
  const open = works.get(device) ?? new Set();
  works.set(device, open.add(work));
  const left = (): void => void open.delete(work);
  work.then(left, left);
}

/** Waits until no thread works in memory of a device. */
export async function allHaveLeft(device: GPUDevice): Promise<void> {
  await Promise.allSettled(works.get(device) ?? []);
}
