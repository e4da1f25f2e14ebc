"""What a fit would take, before it is launched: `onesearch plan` with the command line of `onesearch fit`."""
