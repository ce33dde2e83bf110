addEventListener("fetch", (event) => {
  const [client, server] = Object.values(new WebSocketPair());
  server.accept();
  server.addEventListener("message", (message) => server.send(message.data));
  event.respondWith(new Response(null, { status: 101, webSocket: client }));
});
