/**
 * Event files of TensorBoard.
 *
 * A file is a list of TFRecords, each an `Event` of tensorflow's `event.proto`, of which scalars and texts need a few fields:
 * they are encoded here, as no kept package does it.
 *
 * @module
 */

import type { FileSystemOptions } from "../host/file_system.ts";
import { hostFileSystem } from "../host/host_file_system.ts";
import type { Logger, LogRecord } from "./logger.ts";

/** Options of {@link tensorBoardLogger}. */
export interface TensorBoardOptions extends FileSystemOptions {
  /** Step that a resumed run goes on from: TensorBoard drops what older files have of later steps. 0 when absent. */
  readonly from?: number;
  /** Milliseconds since 1970; those of the clock when absent. */
  readonly now?: () => number;
}

/** A field of a message: its number, its wire type, its bytes. */
type Field = readonly number[];

const VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5;
/** `DT_STRING` of tensorflow's types. */
const DT_STRING = 7;
/** `START` of a `SessionLog`. */
const START = 1;

/**
 * Makes a logger that writes what TensorBoard reads: numbers as scalars, texts as texts. The file is made with the first record.
 *
 * @param folder Folder for the event files of a run, made when missing; `tensorboard --logdir` takes it or the one above
 * @param options Where a run goes on, the clock and the file system
 * @returns The logger
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { memoryFileSystem } from "@firn/train/data";
 * import { tensorBoardLogger } from "@firn/train/report";
 *
 * const fileSystem = memoryFileSystem(); // hostFileSystem() writes to the disk
 * const logger = tensorBoardLogger("runs/first", { fileSystem });
 * await logger([{ step: 1, numbers: { "train/loss": 2.5 }, texts: { sample: "The whale" } }]);
 * const [{ name }] = await fileSystem.list("runs/first");
 * assertEquals(name.startsWith("events.out.tfevents."), true);
 * ```
 */
export function tensorBoardLogger(folder: string, options: TensorBoardOptions = {}): Logger {
  const { from = 0, now = Date.now, fileSystem = hostFileSystem() } = options;
  let path: string | null = null;
  return async (records) => {
    const seconds = now() / 1000, events: Uint8Array[] = [];
    if (path === null) {
      await fileSystem.makeFolder(folder, { parents: true });
      // Files are read in the order of their names.
      const second = String(Math.floor(seconds)).padStart(10, "0");
      path = `${folder}/events.out.tfevents.${second}.firn.${crypto.randomUUID().slice(0, 8)}`;
      events.push(event({ seconds, step: 0 }, bytes(3, "brain.Event:2")));
      const restart = message(7, [integer(1, START)]);
      if (from > 0) events.push(event({ seconds, step: from + 1 }, restart));
    }
    for (const record of records) events.push(event({ seconds, step: record.step }, summary(record)));
    await fileSystem.append(path, joined(events.map(tfRecord)));
  };
}

/** `Event`: wall time, step and one of its contents. */
function event(
  { seconds, step }: { readonly seconds: number; readonly step: number },
  content: Field,
): Uint8Array {
  // A field that is 0 is not written.
  return Uint8Array.from([...double(1, seconds), ...step === 0 ? [] : integer(2, step), ...content]);
}

/** `Summary` in an event: a value for each number and each text. */
function summary({ numbers, texts }: LogRecord): Field {
  const values = [
    ...Object.entries(numbers).map(([tag, value]) => message(1, [bytes(1, tag), float(2, value)])),
    ...Object.entries(texts).map(([tag, value]) => {
      // A tensor of shape [1], and which plugin shows it.
      const tensor = message(8, [
        integer(1, DT_STRING),
        message(2, [message(2, [integer(1, 1)])]),
        bytes(8, value),
      ]);
      return message(1, [bytes(1, tag), tensor, message(9, [message(1, [bytes(1, "text")])])]);
    }),
  ];
  return message(5, values);
}

function varint(value: number): number[] {
  const parts: number[] = [];
  // Steps may need more than 32 bits.
  for (; value >= 128; value = Math.floor(value / 128)) parts.push(value % 128 + 128);
  return [...parts, value];
}

const integer = (field: number, value: number): Field => [field * 8 + VARINT, ...varint(value)];

function bytes(field: number, value: string | Field): Field {
  const content = typeof value === "string" ? [...new TextEncoder().encode(value)] : value;
  return [field * 8 + BYTES, ...varint(content.length), ...content];
}

const message = (field: number, fields: readonly Field[]): Field => bytes(field, fields.flat());

function double(field: number, value: number): Field {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value, true);
  return [field * 8 + FIXED64, ...new Uint8Array(view.buffer)];
}

function float(field: number, value: number): Field {
  const view = new DataView(new ArrayBuffer(4));
  view.setFloat32(0, value, true);
  return [field * 8 + FIXED32, ...new Uint8Array(view.buffer)];
}

/** A TFRecord: length, its checksum, content, its checksum. */
function tfRecord(content: Uint8Array): Uint8Array {
  const record = new Uint8Array(content.length + 16), view = new DataView(record.buffer);
  view.setBigUint64(0, BigInt(content.length), true);
  view.setUint32(8, maskedCrc(record.subarray(0, 8)), true);
  record.set(content, 12);
  view.setUint32(12 + content.length, maskedCrc(content), true);
  return record;
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((n, { length }) => n + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** CRC-32C (Castagnoli), reflected, by byte. */
const CRC_TABLE: Uint32Array = Uint32Array.from({ length: 256 }, (_, byte) => {
  let rest = byte;
  for (let bit = 0; bit < 8; bit++) rest = rest & 1 ? rest >>> 1 ^ 0x82f63b78 : rest >>> 1;
  return rest;
});

/** The checksum of TFRecords: CRC-32C, turned, as a checksum of checksums would be weak. */
function maskedCrc(content: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of content) crc = CRC_TABLE[(crc ^ byte) & 255] ^ crc >>> 8;
  crc = ~crc >>> 0;
  return ((crc >>> 15 | crc << 17) + 0xa282ead8) >>> 0;
}
