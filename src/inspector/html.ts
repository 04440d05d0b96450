/** The page: one document with its style and its script in it, so that nothing else is asked for. */

import { SCRIPT, STYLE } from "./assets.js";

/**
 * The page, under a policy that lets it run its own script and style, talk to its own origin, and nothing else: what a message holds could not run even if
 * the script made the mistake of taking it for markup.
 */
export function page(headers: Readonly<Record<string, string>>): Response {
  const nonce = crypto.randomUUID().replaceAll("-", "");
  const policy = [
    "default-src 'none'",
    `script-src 'nonce-${nonce}'`,
    `style-src 'nonce-${nonce}'`,
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join("; ");
  const body = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Outbox inspector</title>
<style nonce="${nonce}">${STYLE}</style>
</head>
<body>
<noscript>The inspector needs JavaScript.</noscript>
<div id="app"></div>
<script type="module" nonce="${nonce}">${SCRIPT}</script>
</body>
</html>
`;
  return new Response(body, { headers: { ...headers, "Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy } });
}
