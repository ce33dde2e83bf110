# The port is given on the command line: workerd serve websocket.capnp --socket-addr=http=127.0.0.1:PORT
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [(name = "main", worker = .worker)],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")],
);

const worker :Workerd.Worker = (
  serviceWorkerScript = embed "websocket.js",
  compatibilityDate = "2025-01-01",
);
