#!/bin/sh
echo "$1|$2" | tee log
