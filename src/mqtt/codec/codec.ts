/** `mantou/codec`: the packet codec alone. Decoders work in place on a Buffer, encoders return or fill one. */
export { acked, decodeAck, encodeAck } from "./ack.ts";
export { type ConnectFault, type ConnectPacket, decodeConnect, encodeConnack } from "./connect.ts";
export { decodeAuth, decodeDisconnect, encodeAuth, encodeDisconnect } from "./disconnect.ts";
export { INCOMPLETE, MALFORMED, readFrame, varintLength, writeVarint } from "./frame.ts";
export { encodeProperties, type Properties } from "./properties.ts";
export { decodePublish, published } from "./publish.ts";
export { decodeSubscribe, decodeUnsubscribe, encodeSuback } from "./subscribe.ts";
