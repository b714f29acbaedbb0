# Each request takes 20 ms.
run lambda { |_env|
  sleep 0.02
  [200, { "content-type" => "text/plain" }, ["slept\n"]]
}
