# The first request kills the server's only process, with SIGKILL, before it is answered.
run lambda { |_env|
  Process.kill(:KILL, Process.pid)
  sleep
}
