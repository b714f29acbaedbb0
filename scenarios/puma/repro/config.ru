# Each request asks the whole server to stop: SIGTERM to the master, whose pid is in the pid file, and
# to the worker that serves it; then it is answered.
run lambda { |_env|
  Process.kill(:TERM, File.read(ENV.fetch("PIDFILE")).to_i)
  Process.kill(:TERM, Process.pid)
  [200, { "content-type" => "text/plain" }, ["stopping\n"]]
}
