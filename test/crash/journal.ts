/** The journal of disk-shim.c, read back. Its last record may be cut off by the kill. */

interface WriteRecord {
  readonly kind: "write";
  readonly path: string;
  readonly offset: number;
  readonly bytes: Buffer;
}

export type DiskRecord =
  | WriteRecord
  | { readonly kind: "truncate"; readonly path: string; readonly size: number }
  | { readonly kind: "create" | "unlink"; readonly path: string }
  | { readonly kind: "rename"; readonly path: string; readonly to: string }
  | { readonly kind: "sync begins" | "synced" | "sync failed"; readonly path: string; readonly sync: number };

const HEAD_BYTES = 17;

/** Records in order. Views of `bytes`, not copies. */
export function readJournal(bytes: Buffer): DiskRecord[] {
  const records: DiskRecord[] = [];
  for (let at = 0; at + HEAD_BYTES <= bytes.length;) {
    const letter = String.fromCharCode(bytes[at]);
    const pathEnd = at + HEAD_BYTES + bytes.readUInt16LE(at + 1);
    const otherEnd = pathEnd + bytes.readUInt16LE(at + 3);
    const offset = Number(bytes.readBigUInt64LE(at + 5));
    const end = otherEnd + bytes.readUInt32LE(at + 13);
    if (end > bytes.length) break;
    const path = bytes.toString("utf8", at + HEAD_BYTES, pathEnd);
    const to = bytes.toString("utf8", pathEnd, otherEnd);
    records.push(recordOf(letter, { path, to, offset, bytes: bytes.subarray(otherEnd, end) }));
    at = end;
  }
  return records;
}

interface Fields {
  readonly path: string;
  readonly to: string;
  readonly offset: number;
  readonly bytes: Buffer;
}

function recordOf(letter: string, { path, to, offset, bytes }: Fields): DiskRecord {
  switch (letter) {
    case "W":
      return { kind: "write", path, offset, bytes };
    case "T":
      return { kind: "truncate", path, size: offset };
    case "C":
      return { kind: "create", path };
    case "U":
      return { kind: "unlink", path };
    case "R":
      return { kind: "rename", path, to };
    case "B":
      return { kind: "sync begins", path, sync: offset };
    case "E":
      return { kind: "synced", path, sync: offset };
    case "F":
      return { kind: "sync failed", path, sync: offset };
    default:
      throw new Error(`the journal has a record of kind ${letter}`);
  }
}
