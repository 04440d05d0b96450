/** How a relay asks an object for a socket: the one thing that both sides of it know. */

/**
 * The header of such a request. A browser can't put it into the request for a WebSocket, so no page of another site opens one with a visitor's
 * cookies. It opens nothing by itself: the object's own `fetch` is asked first.
 */
const HEADER = "Outbox-Log-Relay";
/** Of no use to the object's own `fetch`, and some of it would make it wait, or answer 304. */
const NOT_FOR_A_PAGE = [HEADER, "Upgrade", "Connection", "Last-Event-ID", "If-None-Match"];

/** Whether a request asks for a socket. */
export function isAttaching({ headers }: Request): boolean {
  return headers.has(HEADER) && headers.get("Upgrade")?.toLowerCase() === "websocket";
}

/** The same request, for a page from an offset on. */
export function pageRequest(request: Request, offset: string): Request {
  const url = new URL(request.url);
  for (const name of ["live", "cursor"]) url.searchParams.delete(name);
  url.searchParams.set("offset", offset);
  const headers = new Headers(request.headers);
  for (const name of NOT_FOR_A_PAGE) headers.delete(name);
  return new Request(new Request(url, request), { headers });
}

/** The same request, for a socket. */
export function attachingRequest(request: Request): Request {
  const asked = pageRequest(request, "now");
  const headers = new Headers(asked.headers);
  headers.set("Upgrade", "websocket");
  headers.set(HEADER, "1");
  return new Request(asked, { headers });
}
