# Answers as nvidia-smi would on the rented GPUs. Made up by the rehearsal: there is no GPU here.
: "${name?}" "${serial?}" "${memory?}" "${count?}" "${driver?}" "${capability?}" "${cuda?}"
row() {
  i=$1; out=
  IFS=,
  for field in $fields; do
    # Without the blanks that a caller may put behind its commas.
    # shellcheck disable=SC2086,SC2116
    case $(echo $field) in
      index) value=$i ;;
      name|gpu_name) value=$name ;;
      uuid|gpu_uuid) value=GPU-$serial-00000000000$i ;;
      driver_version) value=$driver ;;
      memory.total) value=$memory$mib ;;
      memory.free) value=$memory$mib ;;
      memory.used) value=0$mib ;;
      utilization.gpu|utilization.memory) value=0$percent ;;
      temperature.gpu) value=30 ;;
      power.draw) value=50.00$watt ;;
      compute_cap) value=$capability ;;
      *) value='[N/A]' ;;
    esac
    out="$out${out:+, }$value"
  done
  unset IFS
  echo "$out"
}
fields='' mib=' MiB' percent=' %' watt=' W' header=yes list=''
for word; do
  case $word in
    -L|--list-gpus) list=yes ;;
    --query-gpu=*) fields=${word#*=} ;;
    --format=*) case $word in *nounits*) mib='' percent='' watt='' ;; esac; case $word in *noheader*) header='' ;; esac ;;
  esac
done
i=0
[ -n "$fields" ] && [ -n "$header" ] && echo "$fields" | sed 's/,/, /g'
[ -z "$fields$list" ] && echo "NVIDIA-SMI $driver (simulated)  Driver Version: $driver  CUDA Version: $cuda"
while [ $i -lt "$count" ]; do
  if [ -n "$fields" ]; then row $i
  elif [ -n "$list" ]; then echo "GPU $i: $name (UUID: GPU-$serial-00000000000$i)"
  else echo "| $i  $name  0MiB / ${memory}MiB |"; fi
  i=$((i+1))
done
