/**
 * A library of MPI, opened through the foreign function interface of Deno.
 *
 * Three families of libraries are known: Open MPI, where handles are addresses of symbols; MPICH and what has its binary interface
 * (Intel MPI, MVAPICH), where they are numbers; and libraries with the standard binary interface of MPI 5 (`libmpi_abi`). All
 * handles are passed as 64 bits: a function that takes 32 reads the lower half.
 *
 * @module
 */

import { InputError, NotFoundError } from "../errors.ts";

/** Functions of MPI that are used; handles and addresses of buffers are `usize` and `buffer`, counts are 32 bits. */
const FUNCTIONS = {
  MPI_Get_library_version: { parameters: ["buffer", "buffer"], result: "i32" },
  MPI_Initialized: { parameters: ["buffer"], result: "i32" },
  MPI_Init_thread: { parameters: ["usize", "usize", "i32", "buffer"], result: "i32" },
  MPI_Finalize: { parameters: [], result: "i32" },
  MPI_Abort: { parameters: ["usize", "i32"], result: "i32" },
  MPI_Comm_rank: { parameters: ["usize", "buffer"], result: "i32" },
  MPI_Comm_size: { parameters: ["usize", "buffer"], result: "i32" },
  MPI_Comm_dup: { parameters: ["usize", "buffer"], result: "i32" },
  MPI_Comm_split_type: { parameters: ["usize", "i32", "i32", "usize", "buffer"], result: "i32" },
  MPI_Comm_set_errhandler: { parameters: ["usize", "usize"], result: "i32" },
  MPI_Error_string: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  MPI_Isend: { parameters: ["buffer", "i32", "usize", "i32", "i32", "usize", "buffer"], result: "i32" },
  MPI_Iprobe: { parameters: ["i32", "i32", "usize", "buffer", "usize"], result: "i32" },
  MPI_Allreduce: {
    parameters: ["usize", "buffer", "i32", "usize", "usize", "usize"],
    result: "i32",
    nonblocking: true,
  },
  MPI_Allgather: {
    parameters: ["buffer", "i32", "usize", "buffer", "i32", "usize", "usize"],
    result: "i32",
    nonblocking: true,
  },
  MPI_Allgatherv: {
    parameters: ["buffer", "i32", "usize", "buffer", "buffer", "buffer", "usize", "usize"],
    result: "i32",
    nonblocking: true,
  },
  MPI_Alltoall: {
    parameters: ["buffer", "i32", "usize", "buffer", "i32", "usize", "usize"],
    result: "i32",
    nonblocking: true,
  },
  MPI_Bcast: { parameters: ["buffer", "i32", "usize", "i32", "usize"], result: "i32", nonblocking: true },
  MPI_Barrier: { parameters: ["usize"], result: "i32", nonblocking: true },
} as const satisfies Deno.ForeignLibraryInterface;

/** Functions by which ranks go on without one that died (ULFM): Open MPI 5 has them, others may lack them. */
const SURVIVAL = {
  MPIX_Comm_revoke: { parameters: ["usize"], result: "i32", nonblocking: true },
  MPIX_Comm_agree: { parameters: ["usize", "buffer"], result: "i32", nonblocking: true },
  MPIX_Comm_shrink: { parameters: ["usize", "buffer"], result: "i32", nonblocking: true },
} as const satisfies Deno.ForeignLibraryInterface;

/** Functions by which ranks of one host share memory: of MPI, and of the C library where its barriers work across processes. */
const WINDOW = {
  MPI_Comm_split: { parameters: ["usize", "i32", "i32", "buffer"], result: "i32", nonblocking: true },
  MPI_Win_allocate_shared: {
    parameters: ["usize", "i32", "usize", "usize", "buffer", "buffer"],
    result: "i32",
    nonblocking: true,
  },
  MPI_Win_shared_query: { parameters: ["usize", "i32", "buffer", "buffer", "buffer"], result: "i32" },
  MPI_Win_free: { parameters: ["buffer"], result: "i32", nonblocking: true },
  /** Returns its first argument: the address of a buffer. */
  memcpy: { parameters: ["buffer", "buffer", "usize"], result: "usize" },
  statvfs: { parameters: ["buffer", "buffer"], result: "i32" },
  madvise: { parameters: ["usize", "usize", "i32"], result: "i32" },
  pthread_barrierattr_init: { parameters: ["buffer"], result: "i32" },
  pthread_barrierattr_setpshared: { parameters: ["buffer", "i32"], result: "i32" },
  pthread_barrier_init: { parameters: ["usize", "buffer", "u32"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

/** Functions of the C library, which a library of MPI depends on, so that they are found in it. */
const LOADER = {
  dlopen: { parameters: ["buffer", "i32"], result: "usize" },
  dlsym: { parameters: ["usize", "buffer"], result: "usize" },
} as const satisfies Deno.ForeignLibraryInterface;

/** The values of `mpi.h` that are used. */
export interface MpiConstants {
  readonly world: bigint;
  readonly byte: bigint;
  readonly float: bigint;
  readonly sum: bigint;
  readonly errorsReturn: bigint;
  readonly infoNull: bigint;
  /** Address that stands for a buffer that is both sent and received. */
  readonly inPlace: bigint;
  /** Address that stands for a status that nobody reads. */
  readonly statusIgnore: bigint;
  readonly threadSerialized: number;
  readonly threadMultiple: number;
  readonly typeShared: number;
}

/** Functions by which ranks of one host share memory. */
export type WindowCalls = Deno.DynamicLibrary<typeof WINDOW>["symbols"];

/** An open library of MPI. */
export interface Mpi {
  /** Where it is. */
  readonly path: string;
  /** Its version in its own words, such as `Open MPI v4.1.4`. */
  readonly version: string;
  /** Its functions. */
  readonly call: Deno.DynamicLibrary<typeof FUNCTIONS>["symbols"];
  /** Its constants. */
  readonly constants: MpiConstants;
  /** How ranks go on without one that died; null where it cannot. */
  readonly survival: Deno.DynamicLibrary<typeof SURVIVAL>["symbols"] | null;
  /** How ranks of one host share memory; null where they cannot. */
  readonly window: WindowCalls | null;
}

/** MPICH 3.1 and later, Intel MPI, MVAPICH: the common binary interface of these. */
const MPICH: MpiConstants = {
  world: 0x44000000n,
  byte: 0x4c00010dn,
  float: 0x4c00040an,
  sum: 0x58000003n,
  errorsReturn: 0x54000001n,
  infoNull: 0x1c000000n,
  inPlace: 0xffff_ffff_ffff_ffffn,
  statusIgnore: 1n,
  threadSerialized: 2,
  threadMultiple: 3,
  typeShared: 1,
};

/** MPI 5.0, section 20: values of the standard binary interface. */
const STANDARD: MpiConstants = {
  world: 0x101n,
  byte: 0x247n,
  float: 0x210n,
  sum: 0x21n,
  errorsReturn: 0x143n,
  infoNull: 0x130n,
  inPlace: 1n,
  statusIgnore: 0n,
  threadSerialized: 2048,
  threadMultiple: 4096,
  typeShared: 221,
};

/**
 * Opens a library of MPI.
 *
 * @param path Where it is; an absolute path needs no permission but `--allow-ffi` of just that path
 * @returns The library, not yet initialised
 * @throws {InputError} When this runtime has no foreign function interface, or may not open the library
 * @throws {NotFoundError} When there is no such library, or it is none of MPI that is known
 */
export function loadMpi(path: string): Mpi {
  const { Deno: deno } = globalThis;
  if (deno?.dlopen === undefined) {
    throw new InputError(
      "Cannot open MPI as this runtime must call libraries: it is not Deno; train on one GPU",
    );
  }
  const { symbols: call } = opened(deno, path, FUNCTIONS);
  const text = new Uint8Array(8192), length = new Int32Array(1);
  call.MPI_Get_library_version(text, length);
  const version = new TextDecoder().decode(text.subarray(0, length[0])).replace(/\0.*$/s, "").trim();
  const name = version.split("\n")[0].replace(/,? *(package|ident|repo).*$/i, "").trim();
  const survival = has(deno, path, "MPIX_Comm_shrink") ? opened(deno, path, SURVIVAL).symbols : null;
  const isShared = ["MPI_Win_allocate_shared", "pthread_barrier_init", "statvfs"].every((name) =>
    has(deno, path, name)
  );
  const window = isShared ? opened(deno, path, WINDOW).symbols : null;
  return { path, version: name, call, constants: constantsOf(deno, path, version), survival, window };
}

/** What a library calls its handles. */
function constantsOf(deno: typeof Deno, path: string, version: string): MpiConstants {
  if (/open ?mpi/i.test(version)) return openMpi(deno, path);
  if (has(deno, path, "MPI_Abi_get_version") && /_abi/.test(path)) return STANDARD;
  if (/mpich|intel|mvapich/i.test(version)) return MPICH;
  throw new NotFoundError(
    `Cannot use "${path}" as it must be Open MPI, MPICH, or have the standard binary interface of MPI 5: it is "${
      version.split("\n")[0]
    }"; name another library`,
  );
}

/** Handles of Open MPI are addresses of its symbols. */
function openMpi(deno: typeof Deno, path: string): MpiConstants {
  const { dlopen, dlsym } = opened(deno, path, LOADER).symbols;
  const isMac = deno.build.os === "darwin", now = 2, visible = isMac ? 8 : 0x100;
  // Its plug-ins look for its symbols among those of the process.
  const handle = dlopen(textOf(path), now | visible);
  const symbol = (name: string): bigint => dlsym(handle, textOf(`ompi_mpi_${name}`));
  return {
    world: symbol("comm_world"),
    byte: symbol("byte"),
    float: symbol("float"),
    sum: symbol("op_sum"),
    errorsReturn: symbol("errors_return"),
    infoNull: symbol("info_null"),
    inPlace: 1n,
    statusIgnore: 0n,
    threadSerialized: 2,
    threadMultiple: 3,
    typeShared: 0,
  };
}

function textOf(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`);
}

/** Whether a library has a symbol. */
function has(deno: typeof Deno, path: string, name: string): boolean {
  try {
    deno.dlopen(path, { [name]: { parameters: ["buffer", "buffer"], result: "i32" } }).close();
    return true;
  } catch {
    return false;
  }
}

function opened<const T extends Deno.ForeignLibraryInterface>(
  deno: typeof Deno,
  path: string,
  functions: T,
): Deno.DynamicLibrary<T> {
  try {
    return deno.dlopen(path, functions);
  } catch (error) {
    const { name, message } = error as Error;
    if (name === "NotCapable") {
      throw new InputError(
        `Cannot open "${path}" as Deno must be allowed to call that library: it is not; run with --allow-ffi=${path}`,
      );
    }
    throw new NotFoundError(
      `Cannot open "${path}" as it must be a library of MPI: ${message}; install Open MPI or MPICH, or name another library`,
    );
  }
}
