"""The product's command, with lag read every second: in a recording a second stands for a minute."""

from mistudio_explain.cli.main import main
from mistudio_explain.kafka.lag_refresh import refresh_lag

refresh_lag.__kwdefaults__["every_s"] = 1.0
main()
