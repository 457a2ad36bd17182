# The actors once more, on sockets in memory: for bench/growth and tests/sim_nodes. Built only for whoever asks for one of them.
if(NOT TARGET covey_actors_in_memory)
  file(GLOB actors_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/actors/*.cpp)
  add_library(covey_actors_in_memory STATIC EXCLUDE_FROM_ALL ${actors_sources})
  target_include_directories(covey_actors_in_memory BEFORE PUBLIC ${CMAKE_CURRENT_LIST_DIR})
  target_link_libraries(covey_actors_in_memory PUBLIC covey_modules covey_net covey_storage covey_cluster ${COVEY_CAF_CORE})
  target_precompile_headers(covey_actors_in_memory REUSE_FROM covey_actors)
endif()
