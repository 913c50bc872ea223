/** Links between processes of one broker, over Unix sockets in a directory that only their user may enter. */
import { rmSync } from "node:fs";
import type { Socket } from "bun";
import type { Link, Protocol } from "#core/ports.ts";
import { type Receiver, TcpLink, type TcpTransport } from "./tcp.ts";

type MakeProtocol = (link: Link) => Protocol;

/** Carries many clients: it takes no turns with links that carry one (fair-share.ts), which have taken theirs. */
class LocalLink extends TcpLink {
  override handleData(chunk: Buffer): void {
    this.handleShare(chunk);
  }
}

function handlersOf(transport: TcpTransport, makeProtocol: MakeProtocol) {
  return {
    open(socket: Socket<Receiver>): void {
      const link = new LocalLink(transport, socket);
      socket.data = link;
      link.protocol = makeProtocol(link);
    },
    data: (socket: Socket<Receiver>, chunk: Buffer): void => socket.data?.handleData(chunk),
    drain: (socket: Socket<Receiver>): void => socket.data?.handleDrain(),
    close: (socket: Socket<Receiver>): void => socket.data?.handleClosed(),
    error: (_socket: Socket<Receiver>, error: Error): void => transport.reportBug(error),
  };
}

/** What stands at `path` is a dead process's. Returns how to stop listening. */
export function listenLocally(path: string, transport: TcpTransport, makeProtocol: MakeProtocol): () => void {
  rmSync(path, { force: true });
  const listener = Bun.listen<Receiver>({ unix: path, socket: handlersOf(transport, makeProtocol) });
  return () => listener.stop();
}

/** Resolves when the link is open; false when nobody listens there. */
export async function connectLocally(
  path: string,
  transport: TcpTransport,
  makeProtocol: MakeProtocol,
): Promise<boolean> {
  try {
    await Bun.connect<Receiver>({ unix: path, socket: handlersOf(transport, makeProtocol) });
    return true;
  } catch {
    return false;
  }
}
