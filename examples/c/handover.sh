#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# One program gives a buffer of a kind away and ends; the other uses it then.
here=$(dirname "$0")
"$here/dma-buf" /tmp/socket &
"$here/share" "${1:-pages}" /tmp/socket
wait
